//! Clamor's Kubernetes resources: types, schema, CEL rules
