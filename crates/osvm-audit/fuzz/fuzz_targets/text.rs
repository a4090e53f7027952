//! Whatever bytes a file holds, the audit ends, and says of it what it is or that it was not analysed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let report = osvm_audit::analyse_text(text).expect("a thread can be had");
    assert_eq!(report.files, 1);
    // A panic inside is caught and reported; here it is what is looked for.
    for part in &report.not_analysed {
        assert!(!part.reason.contains("failed"), "{}: {}", part.file, part.reason);
    }
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    for finding in &report.findings {
        assert!(finding.location.span.line <= lines.max(1), "{} points past the end", finding.rule);
    }
});
