{{/* The operator's pod: `root` is the chart's scope, `args` are more arguments. */}}
{{- define "clamor.pod" -}}
{{- $args := .args }}
{{- with .root -}}
serviceAccountName: {{ include "clamor.serviceAccount" . }}
automountServiceAccountToken: true
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
containers:
  - name: operator
    image: {{ include "clamor.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: ["/clamor-operator"]
    {{- with $args }}
    args: {{ toJson . }}
    {{- end }}
    env:
      - name: CONFIG
        value: /etc/clamor/operator.yaml
      {{- with .Values.watchNamespaces }}
      - name: WATCH_NAMESPACES
        value: {{ join "," . | quote }}
      {{- end }}
      - name: LEASE_NAME
        value: {{ include "clamor.operator" . }}
      - name: POD_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      - name: POD_NAMESPACE
        valueFrom:
          fieldRef:
            fieldPath: metadata.namespace
      - name: HTTP_LISTEN
        value: 0.0.0.0:8470
      - name: LOG
        value: {{ .Values.operator.log | quote }}
      # Requests are made on whatever thread is free; a heap for each thread takes a quarter more memory and saves no time.
      - name: MALLOC_ARENA_MAX
        value: "1"
      - name: LOG_FORMAT
        value: json
    ports:
      - name: http
        containerPort: 8470
        protocol: TCP
    # It is ready when the definitions are served as it knows them and it has seen all objects, also while it stands by.
    readinessProbe:
      httpGet:
        path: /readyz
        port: http
      periodSeconds: 5
    livenessProbe:
      httpGet:
        path: /livez
        port: http
      periodSeconds: 10
      failureThreshold: 6
    {{- with .Values.operator.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: ["ALL"]
    volumeMounts:
      - name: config
        mountPath: /etc/clamor
        readOnly: true
      {{- if include "clamor.secretSources" . }}
      - name: buses
        mountPath: {{ include "clamor.secrets" . }}
        readOnly: true
      {{- end }}
volumes:
  - name: config
    configMap:
      name: {{ include "clamor.operator" . }}
  {{- with include "clamor.secretSources" . }}
  - name: buses
    projected:
      defaultMode: 0440
      sources:
        {{- . | nindent 8 }}
  {{- end }}
{{- with .Values.operator.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
