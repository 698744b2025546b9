//! The node with what runs on it. Dropping it gives the machine back, also when the test fails; then it first prints how
//! its objects stood.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use clamor_testkit::kube::{helm, kubectl};
use clamor_testkit::{Simulator, is_unprivileged, program_beside_tests};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Where the operator is.
const OPERATOR: &str = "clamor-system";
/// The namespace that the test works in.
const NAMESPACE: &str = "chat";
/// What a failure prints.
const SHOWN: [&[&str]; 4] = [
    &["get", "pods,deployments,cpl,ph", "--all-namespaces", "-o", "wide"],
    &["describe", "cpl", "--all-namespaces"],
    &["get", "events", "--all-namespaces", "--field-selector=involvedObject.kind!=TrackedChannel"],
    &["-n", OPERATOR, "logs", "deployment/clamor-operator", "--tail=40"],
];

/// Whether the cluster is left out: it takes root, and whoever runs the tests has said that what does is to be.
#[must_use]
pub fn is_left_out() -> bool {
    let left_out = is_unprivileged();
    if left_out {
        eprintln!("NOT TESTED: a node takes root");
    }
    left_out
}

/// A node with NATS, PostgreSQL, a simulator and the operator.
#[derive(Debug)]
pub struct Node {
    dir: PathBuf,
    /// What has been read of its file `env`.
    addresses: String,
    /// The simulator that its workers read.
    pub simulator: Simulator,
}

impl Node {
    /// Brings everything up; the simulator has these flags.
    ///
    /// # Errors
    /// When something is missing, or does not come up; what was begun is taken down.
    pub fn start(simulator: &str) -> Result<Self> {
        let dir = fs::canonicalize(ROOT).context("failed to find the checkout")?.join(".clamor/cluster-test");
        // Of a test that was killed.
        script(&dir, &["down"], simulator)?;
        let mut node = Self { dir, addresses: String::new(), simulator: Simulator::at("")? };
        for step in ["up", "node", "services", "install"] {
            script(&node.dir, &[step], simulator)?;
        }
        node.addresses = fs::read_to_string(node.dir.join("env")).context("failed to read the services' addresses")?;
        node.simulator = Simulator::at(node.address("SIMULATOR_URL")?)?;
        Ok(node)
    }

    /// `NATS_URL`, `DATABASE_URL` or `SIMULATOR_URL`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn address(&self, name: &str) -> Result<&str> {
        let mut lines = self.addresses.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value).with_context(|| format!("no {name}"))
    }

    /// Runs kubectl in the test's namespace; what it printed.
    ///
    /// # Errors
    /// When it fails; with its words.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        text(self.kubectl_command()?.args(args))
    }

    /// The same with an answer in JSON.
    ///
    /// # Errors
    /// When it fails; with its words.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let answer = self.kubectl(&[&["get", "-o", "json"], args].concat())?;
        serde_json::from_str(&answer).context("kubectl writes JSON")
    }

    /// Applies these manifests in the test's namespace.
    ///
    /// # Errors
    /// When one is refused; with kubectl's words.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.apply_in(NAMESPACE, manifests)
    }

    /// The same in another one.
    ///
    /// # Errors
    /// When one is refused; with kubectl's words.
    pub fn apply_in(&self, namespace: &str, manifests: &str) -> Result<()> {
        let path = self.dir.join("applied.yaml");
        fs::write(&path, manifests).context("failed to write manifests")?;
        let path = path.display().to_string();
        // On the server it is one request for each: three hundred channels take a while otherwise.
        self.kubectl(&["-n", namespace, "apply", "--server-side", "-f", &path]).map(drop)
    }

    /// Runs helm on the operator's release; what it printed.
    ///
    /// # Errors
    /// When it fails; with its words.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(helm()?);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(["--namespace", OPERATOR]);
        text(command.args(args))
    }

    /// Packs the programs into one more image: `localhost/clamor:<tag>`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn load(&self, tag: &str) -> Result<()> {
        script(&self.dir, &["load", tag], "")
    }

    /// Sends SIGKILL to the processes of a pod, as the machine sees them; how many there were.
    ///
    /// # Errors
    /// When they cannot be found.
    pub fn kill9(&self, namespace: &str, pod: &str) -> Result<usize> {
        let uid = self.kubectl(&["-n", namespace, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}"])?;
        let mut killed = 0;
        for entry in fs::read_dir("/proc").context("failed to read /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            if read("cgroup").contains(&uid) && read("cmdline").starts_with("/clamor-") {
                kill(Pid::from_raw(pid), Signal::SIGKILL).context("failed to kill a worker")?;
                killed += 1;
            }
        }
        Ok(killed)
    }

    /// Gives the machine back.
    ///
    /// # Errors
    /// When something stays.
    pub fn down(self) -> Result<()> {
        script(&self.dir, &["down"], "")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join("control-plane/admin.kubeconfig")
    }

    fn kubectl_command(&self) -> Result<Command> {
        let mut command = Command::new(kubectl()?);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(["--namespace", NAMESPACE]);
        command.env("KUBECACHEDIR", self.dir.join("kubectl"));
        Ok(command)
    }

    fn show(&self) {
        for args in SHOWN {
            let shown = self.kubectl(args).unwrap_or_else(|error| format!("{error:#}"));
            eprintln!("--- kubectl {}\n{shown}", args.join(" "));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.dir.exists() {
            return;
        }
        if std::thread::panicking() {
            self.show();
        }
        if let Err(error) = script(&self.dir, &["down"], "") {
            eprintln!("the machine was not given back: {error:#}");
        }
    }
}

/// Runs `tools/kube/cluster`.
fn script(dir: &Path, args: &[&str], simulator: &str) -> Result<()> {
    let program = program_beside_tests("clamor-test-cluster")?;
    let mut command = Command::new(Path::new(ROOT).join("tools/kube/cluster"));
    command.args(args).env("CLAMOR_CLUSTER_DIR", dir).env("CLAMOR_SIMULATOR", simulator);
    command.env("CLAMOR_PROGRAMS", program.parent().context("a program lies in a folder")?);
    // What it starts goes on, and holds on to whatever it is given: it must not be this test's output.
    let log = dir.with_extension("log");
    fs::create_dir_all(dir.parent().context("not the root")?).context("failed to make the cluster's folder")?;
    let file = fs::File::create(&log).with_context(|| format!("failed to make {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone().context("failed to share a file")?).stderr(file);
    let status = command.status().context("failed to run tools/kube/cluster")?;
    let said = fs::read_to_string(&log).unwrap_or_default();
    ensure!(status.success(), "tools/kube/cluster {}: {status}\n{said}", args.join(" "));
    fs::remove_file(&log).context("failed to remove a log")
}

fn text(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().context("failed to run a program")?;
    ensure!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).context("it writes text")
}
