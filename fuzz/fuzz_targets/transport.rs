#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postmapd_fuzz::targets::transport(data));
