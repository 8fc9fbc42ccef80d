//! The target of this name, see mcomp-fuzz.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| mcomp_fuzz::gateway::gateway_head(data));
