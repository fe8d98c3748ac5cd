//! Why a kind of finding matters to Postfix, in a sentence.

/// Why findings of this code matter.
#[must_use]
#[allow(clippy::too_many_lines, reason = "a table of codes")]
pub fn why(code: &str) -> Option<&'static str> {
    Some(match code {
        "bad-next-hop" => {
            "smtp(8) exits at a next hop that it cannot parse, and master(8) then holds back the mail of everyone for a \
             minute"
        }
        "bad-credentials" => {
            "Postfix would log in with an empty password, or not at all; the key is answered with 'cannot tell' instead"
        }
        "bad-key" => {
            "Postfix can ask for no such key, so this is no line of a table: it may be meant for any sender, and whatever \
             is not found in this file is 'cannot tell'"
        }
        "nothing-routes" => {
            "a directory that is mounted too late or at the wrong place looks like this, and Postfix is told that no \
             sender has a relay"
        }
        "no-next-hops" => {
            "a relay map that was lost looks like this, and without a relay Postfix would offer the passwords to the \
             recipients' own servers"
        }
        "bad-next-hops" => "it decides whether a password without a relay is withheld, so it is not guessed",
        "near-miss-name" => {
            "a table that is missing is empty, so that its senders have no relay or no password"
        }
        "two-ats" => "no sender has two @ in its address, so Postfix never asks for the entry",
        "duplicate-key" => "postmap(1) keeps the first line of a key, too",
        "no-credentials" => "Postfix sends without authenticating where it finds no credentials",
        "indented-entry" => "postmap(1) glues an indented line to the one before it",
        "byte-order-mark" => "postmap(1) takes it for a part of the first key, which then never matches",
        "not-utf-8" => "with smtputf8_enable=yes Postfix takes a value that is not UTF-8 for a failed lookup",
        "crlf" => "postmap(1) ignores the CR too; other programs make it a part of the password",
        "never-asked" => {
            "the entry can never match: Postfix asks for a sender's whole address, for the name of the \
                          server and for the next hop as it is written, and nothing else"
        }
        "bare-domain" => "the entry never matches a sender: those of a domain are found by @domain",
        "shadowed" => {
            "Postfix asks for the name of the server before the next hop, and takes what it finds first"
        }
        "credentials-withheld" => {
            "without a next hop the mail goes to the recipient's own server, and Postfix would offer it the password"
        }
        "excluded-with-credentials" => {
            "mail of an excluded sender goes to the recipient's own server, which must not get the password"
        }
        "implicit-tls" => {
            "smtp(8) waits for a greeting in plain text, the server for TLS, and the mail is deferred"
        }
        "host-without-address" => {
            "Postfix bounces mail for a sender-dependent relay whose name does not resolve (5.4.4)"
        }
        "invisible-character" | "value-in-quotes" | "placeholder" | "blank-around-value" => {
            "the relay refuses such a login, and Postfix logs that refusal alone"
        }
        "no-such-relay" => {
            "a relay that wants a login refuses mail that comes without one, and Postfix bounces it (530 5.7.0)"
        }
        "login-for-several-relays" => {
            "Postfix asks for the login by the sender before it asks by the relay, so the second relay is given the \
             password of the first"
        }
        "bounces-without-relay" => {
            "where direct delivery is blocked, bounces stay in the queue until they expire"
        }
        "domain-without-xn" | "domain-without-unicode" => {
            "Postfix asks for a domain in the form in which the mail has it, and converts neither"
        }
        "too-long-for-tcp" => "Postfix takes at most so many bytes of a reply (DICT_TCP_MAXLEN)",
        "readable-by-others" => "smtp(8) reads no file here: postmapd alone needs to",
        "replaced-under-its-mount" => "edits on the host are not seen here, and what is served gets old",
        "relayhost-in-main-cf" => {
            "an excluded sender, which is to be delivered directly, goes to that relayhost instead"
        }
        "file-unreadable" | "file-too-large" | "files-changing" | "file-open-for-writing" | "file-gone" => {
            "what is not known is answered with 'cannot tell', and Postfix keeps the mail in its queue"
        }
        "secret-unreadable" | "empty-secret-file" => {
            "without it the default relay, or its credentials, are 'cannot tell'; never 'no credentials'"
        }
        "bad-relay-host" | "bad-default-relay-host" => {
            "a next hop that smtp(8) cannot parse stops everyone's mail"
        }
        "half-credentials" => {
            "without a login Postfix would send without authenticating, and the relay's refusal would bounce the mail"
        }
        "bad-default-credentials" | "credentials-without-relay" => {
            "credentials that are not whole are of no use to the relay, and its refusal bounces the mail"
        }
        "aws-ses" | "foreign-variable" | "service-link" | "variable-ignored" | "unknown-variable" => {
            "what it says has no effect"
        }
        "nobody-allowed" => {
            "Postfix is hung up on there, and keeps all mail that needs an answer in its queue"
        }
        "bad-endpoint"
        | "bad-admin-address"
        | "no-such-user"
        | "bad-network"
        | "bad-socket-mode"
        | "bad-switch"
        | "bad-recipient-delimiter"
        | "bad-log-setting"
        | "bad-setting"
        | "bad-toml"
        | "unknown-setting"
        | "settings-unreadable" => {
            "the server does not start with wrong settings, and keeps those it has while it runs"
        }
        _ => return None,
    })
}
