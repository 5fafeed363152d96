#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    certctl_fuzz::csr_fields(data);
});
