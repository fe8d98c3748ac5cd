//! Clients with another identity: another user, or another network namespace.
//!
//! User and namespace are set for one thread of the test. A socket keeps the identity it was created with, so the test
//! can use it afterwards.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// Runs `act` as a user that is only in its own group.
pub(crate) fn as_user<T: Send>(uid: u32, act: impl FnOnce() -> T + Send) -> T {
    in_thread(|| {
        become_user(uid);
        act()
    })
}

fn become_user(uid: u32) {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    set_thread_groups(&[]).expect("no other groups; the tests run as root");
    set_thread_res_gid(group, group, group).expect("another group");
    set_thread_res_uid(user, user, user).expect("another user");
}

fn in_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(act).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The number of a user.
pub(crate) fn uid_of(name: &str) -> u32 {
    let user = nix::unistd::User::from_name(name).expect("users can be looked up");
    user.unwrap_or_else(|| panic!("there is no user {name}"))
        .uid
        .as_raw()
}

/// Two network namespaces linked by a pair of virtual interfaces: `192.0.2.1` and `2001:db8::1` at the near end,
/// `192.0.2.2` and `2001:db8::2` at the far end. Removed on drop.
pub(crate) struct Networks {
    near: String,
    far: String,
}

impl Networks {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "pm{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let networks = Self {
            near: format!("{name}-near"),
            far: format!("{name}-far"),
        };
        for (own, last) in [(&networks.near, 1), (&networks.far, 2)] {
            ip(&format!("netns add {own}"));
            if last == 2 {
                ip(&format!(
                    "-n {own} link add cable type veth peer name cable netns {}",
                    networks.near
                ));
            }
            ip(&format!("-n {own} link set lo up"));
        }
        for (own, last) in [(&networks.near, 1), (&networks.far, 2)] {
            ip(&format!("-n {own} address add 192.0.2.{last}/24 dev cable"));
            ip(&format!(
                "-n {own} address add 2001:db8::{last}/64 dev cable nodad"
            ));
            ip(&format!("-n {own} link set cable up"));
        }
        networks
    }

    /// The command line that starts a program at the near end.
    pub(crate) fn start_command(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.near]
    }

    /// Runs `act` at the near end, as a user.
    pub(crate) fn near<T: Send>(&self, uid: u32, act: impl FnOnce() -> T + Send) -> T {
        within(&self.near, uid, act)
    }

    /// Runs `act` at the far end, as root.
    pub(crate) fn far<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        within(&self.far, 0, act)
    }
}

fn within<T: Send>(namespace: &str, uid: u32, act: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    in_thread(|| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("moved there");
        become_user(uid);
        act()
    })
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            // It fails where the namespace was not created.
            drop(Command::new("ip").args(["netns", "delete", name]).output());
        }
    }
}

fn ip(words: &str) {
    let ran = Command::new("ip").args(words.split(' ')).output();
    let ran = ran.expect("ip, of the package iproute2");
    assert!(
        ran.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}
