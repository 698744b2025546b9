//! Keeps a Kubernetes control plane: for the tests that share one, and for a node on this machine.
//!
//! It dies with this program, however that ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clamor_testkit::kube::{ControlPlane, ControlPlaneOptions, shared};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: clamor-test-cluster keep DIR PORT
       clamor-test-cluster share DIR MILLISECONDS

keep: a control plane in DIR, which is emptied, with its API server on PORT, until SIGTERM or Ctrl-C. Prints the line of a
      shell that lets kubectl find it once it is of use.
share: for tests, which start it themselves: until nobody has used it for so long.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["keep", dir, port] => keep(Path::new(dir), port).await,
        ["share", dir, milliseconds] => share(Path::new(dir), milliseconds).await,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn share(dir: &Path, milliseconds: &str) -> Result<()> {
    let linger = milliseconds.parse().context("MILLISECONDS is not a number")?;
    shared::supervise(dir, Duration::from_millis(linger)).await
}

async fn keep(dir: &Path, port: &str) -> Result<()> {
    let port = port.parse().context("PORT is not a port's number")?;
    let options = ControlPlaneOptions {
        port: Some(port),
        has_node: true,
        has_definitions: false,
        ..ControlPlaneOptions::new(PathBuf::from(dir))
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let plane = tokio::select! {
        plane = ControlPlane::start(options) => plane?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    println!("export KUBECONFIG={}", plane.admin_kubeconfig().display());
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        log = plane.ended() => bail!("a part of the control plane ended by itself\n{log}"),
    }
}
