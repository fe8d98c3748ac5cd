use sha2::{Digest, Sha256};

use super::POLICY;

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).map(|group| {
        let bits = group
            .iter()
            .chain(&[0, 0])
            .take(3)
            .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let digits = (0..4).map(|place| char::from(DIGITS[bits >> (18 - 6 * place) & 63]));
        let digits: String = digits.take(group.len() + 1).collect();
        format!("{digits:=<4}")
    });
    groups.collect()
}

#[test]
fn the_policy_names_the_style_of_the_template() {
    assert_eq!(base64(b"abcd"), "YWJjZA==");
    let template = include_str!("../../../../templates/page.html");
    let (_, rest) = template.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let expected = format!("'sha256-{}'", base64(&Sha256::digest(style)));
    assert!(POLICY.contains(&expected), "write {expected} into POLICY");
    assert_eq!(template.matches("<style").count(), 1);
}
