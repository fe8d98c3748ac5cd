//! What a service manager and a service say to each other: systemd, or whoever else speaks its protocols.
//!
//! - [`socket_activation`]: sockets that it opened for us, before we run (sd_listen_fds(3));
//! - [`notify`]: what we tell it of our life, and how often it wants to hear that we live (sd_notify(3)).
//!
//! Both are said in variables of the environment, and without them nothing here does anything. The server starts no
//! other program, so nobody inherits the variables; descriptors are closed on exec.

pub mod notify;
pub mod socket_activation;
