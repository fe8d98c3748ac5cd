//! docker_mailserver.
