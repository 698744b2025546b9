//! Starts nats-server and PostgreSQL as children of this process, for a laptop and for tests.
//!
//! What holds for both servers:
//! - **They die with their parent**, also when it is killed with SIGKILL: the kernel then sends each its stop signal
//!   ([`child`]). Nothing is left behind that holds a port or a folder.
//! - **One server per folder.** Every process of a server holds the lock of its folder, so a new start first waits until
//!   the last process of a killed server is gone ([`folder`]).
//! - **Ready means ready**: `start` returns once the server has answered over its port, or fails with the last lines of
//!   its log.
//! - **Loopback only**, behind a password that is kept in a file only its owner can read: a machine has other users.
//! - PostgreSQL refuses to run as root, so for root it runs as the user `postgres` or `nobody`, in a folder that this
//!   user can enter ([`folder::Placement`]).

mod binaries;
mod child;
mod error;
pub mod folder;
mod log_file;
mod nats;
mod port;
mod postgres;
mod secret;

pub use binaries::{Binaries, OLDEST_POSTGRES, PostgresBinaries, tools_dirs};
pub use child::{Child, ChildOptions, ExitStatus};
pub use error::ServerError;
pub use nats::{Nats, NatsAuth, NatsOptions, NatsTls};
pub use port::free_port;
pub use postgres::{Postgres, PostgresOptions};
