//! The promises of postmapd, each in a file of its own, tried on the built binary.
