//! The kinds of findings: the name, severity and rationale of each, and whether it means that passwords leak.
//!
//! The names are an interface (`check --format json`, `postconf --check --format json`, `/status`): a released one
//! stays. The tables in postmapd-check(1) and postmapd-postconf(1) are generated from this one.

use std::fmt;

use super::Severity;

/// Which passwords leak where there is a finding of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leak {
    /// No passwords leak.
    Nothing,
    /// Those for the mail that the service concerned sends.
    Own,
    /// All that postmapd has, whatever mail the service concerned sends.
    All,
}

/// Defines the kinds: of each group the rationale, then severity, variant and name of each kind.
macro_rules! codes {
    ($($rationale:expr => $($severity:ident $code:ident $name:literal $(leaks $leak:ident)?),+;)*) => {
        /// A kind of finding. [`Code::as_str`] is its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = concat!("`", $name, "`")] $code,)+)*
        }

        impl Code {
            /// All kinds, those of a group together.
            pub const ALL: &'static [Self] = &[$($(Self::$code,)+)*];

            /// Returns its stable name, for programs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$code => $name,)+)*
                }
            }

            /// Returns the severity of findings of this kind.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self {
                    $($(Self::$code => Severity::$severity,)+)*
                }
            }

            /// Returns why findings of this kind matter, in a sentence; `None` where the message says it.
            #[must_use]
            pub const fn rationale(self) -> Option<&'static str> {
                match self {
                    $($(Self::$code)|+ => $rationale,)*
                }
            }

            /// Returns which passwords leak where there is such a finding.
            #[must_use]
            pub const fn leak(self) -> Leak {
                match self {
                    $($($(Self::$code => Leak::$leak,)?)+)*
                    _ => Leak::Nothing,
                }
            }
        }
    };
}

codes! {
    Some("smtp(8) exits on a next hop that it cannot parse, and master(8) then delays all mail for a minute") =>
        Error BadNextHop "bad-next-hop";
    Some("Postfix cannot use such a TLS policy, and defers all mail to the next hop (4.7.5)") =>
        Error BadTls "bad-tls";
    Some("an answer names one service of master.cf, which uses either implicit TLS or STARTTLS") =>
        Error MixedTls "mixed-tls";
    Some("an answer of the map transport names one service of master.cf, which uses either implicit TLS or STARTTLS; \
          without that map, Postfix speaks STARTTLS to all next hops") =>
        Warning MixedModes "mixed-modes";
    Some("Postfix would log in with an empty password, or not at all; lookups of this key return a temporary error \
          instead") =>
        Error BadCredentials "bad-credentials";
    Some("Postfix never looks up such a key, so the line may belong to any sender: every lookup that finds no entry \
          in this file returns a temporary error") =>
        Error BadKey "bad-key";
    Some("a directory that is mounted late or in the wrong place looks like this, and Postfix then finds no relay \
          for any sender") =>
        Warning NothingRoutes "nothing-routes";
    Some("a lost relay map looks like this, and without a relay Postfix would offer the passwords to the recipients' \
          own servers") =>
        Warning NoNextHops "no-next-hops";
    Some("the setting decides whether a password without a relay is withheld, so the server does not guess it") =>
        Error BadNextHops "bad-next-hops";
    Some("a missing table is an empty table, so its senders have no relay or no password") =>
        Warning NearMissName "near-miss-name";
    Some("no sender has two @ in its address, so Postfix never looks up this key") =>
        Error TwoAts "two-ats";
    Some("postmap(1) also uses the first of several lines with the same key") =>
        Warning DuplicateKey "duplicate-key";
    Some("Postfix sends without authenticating if it finds no credentials") =>
        Warning NoCredentials "no-credentials";
    Some("`postmapd relay enable` does not find such an entry, and a password in it stays in the file") =>
        Warning BadDisabledEntry "bad-disabled-entry";
    Some("postmap(1) joins an indented line to the line before it") =>
        Warning IndentedEntry "indented-entry";
    Some("postmap(1) makes it part of the first key, which then never matches") =>
        Warning ByteOrderMark "byte-order-mark";
    Some("with smtputf8_enable=yes, Postfix treats a value that is not UTF-8 as a failed lookup") =>
        Warning NotUtf8 "not-utf-8";
    Some("postmap(1) also ignores the CR; other programs make it part of the password") =>
        Warning Crlf "crlf";
    Some("the entry never matches: Postfix looks up only the sender's whole address, the server name, and the next \
          hop as it is written") =>
        Warning NeverAsked "never-asked";
    Some("the entry never matches a sender: @domain matches the senders of a domain") =>
        Warning BareDomain "bare-domain";
    Some("Postfix looks up the server name before the next hop, and uses the first match") =>
        Warning Shadowed "shadowed";
    Some("without a next hop, the mail goes to the recipient's own server, and Postfix would offer it the password") =>
        Warning CredentialsWithheld "credentials-withheld";
    Some("mail of an excluded sender goes to the recipient's own server, which must not get the password") =>
        Warning ExcludedWithCredentials "excluded-with-credentials";
    Some("without the map transport and its services of master.cf, smtp(8) waits for a plaintext greeting while the relay \
          waits for TLS, and the mail is deferred") =>
        Warning ImplicitTls "implicit-tls";
    Some("with the wrong one, smtp(8) waits for a greeting that does not come, or gets one that is not TLS, and the mail is \
          deferred") =>
        Warning PortWithoutMode "port-without-mode";
    Some("Postfix looks up the policy of a next hop without brackets and port by the same key as that of a recipient's \
          domain") =>
        Warning SharedPolicy "shared-policy";
    Some("Postfix ignores addresses in certificates, so the level for an address is encrypt") =>
        Warning UnverifiableRelay "unverifiable-relay";
    Some("Postfix ignores addresses in certificates, so no certificate matches, and all mail to the next hop is deferred") =>
        Warning NeverVerified "never-verified";
    Some("a server in between can then remove STARTTLS, and gets the mail and the password in cleartext unless main.cf \
          forbids it") =>
        Warning WeakTlsForAll "weak-tls-for-all";
    Some("the entry has no effect: only next hops of senders are looked up in the TLS file") =>
        Warning UnusedTlsEntry "unused-tls-entry";
    Some("Postfix bounces mail for a sender-dependent relay whose name does not resolve (5.4.4)") =>
        Warning HostWithoutAddress "host-without-address";
    Some("the relay rejects such a login, and Postfix logs only the rejection") =>
        Warning InvisibleCharacter "invisible-character",
        Warning ValueInQuotes "value-in-quotes",
        Warning Placeholder "placeholder",
        Warning WhitespaceAroundValue "blank-around-value";
    Some("a relay that requires a login rejects mail sent without one, and Postfix bounces it (530 5.7.0)") =>
        Warning NoSuchRelay "no-such-relay";
    Some("Postfix looks up the login by sender before it looks it up by relay, so the second relay gets the password \
          of the first") =>
        Warning LoginForSeveralRelays "login-for-several-relays";
    Some("where direct delivery is blocked, bounces stay in the queue until they expire") =>
        Warning BouncesWithoutRelay "bounces-without-relay";
    Some("the entry for @* in the relay map takes precedence over RELAY_HOST, and an entry for the sender over both") =>
        Warning DefaultRelayUnused "default-relay-unused";
    Some("Postfix looks up a domain in the form that the message uses, and does not convert it") =>
        Warning DomainWithoutXn "domain-without-xn",
        Warning DomainWithoutUnicode "domain-without-unicode";
    Some("Postfix limits the length of a tcp_table reply (DICT_TCP_MAXLEN)") =>
        Warning TooLongForTcp "too-long-for-tcp";
    Some("only postmapd needs to read this file; smtp(8) does not") =>
        Warning ReadableByOthers "readable-by-others";
    Some("edits on the host are not visible here, so the server keeps serving the old file") =>
        Warning ReplacedUnderItsMount "replaced-under-its-mount";
    Some("mail of an excluded sender goes to that relayhost instead of being delivered directly") =>
        Warning RelayhostInMainCf "relayhost-in-main-cf";
    Some("the tables are used without it, but no status, metric or page says which revision of its source the server has") =>
        Warning BadDirectorySource "bad-directory-source";
    Some("lookups that depend on the file return a temporary error, and Postfix keeps the mail in its queue") =>
        Error FileUnreadable "file-unreadable",
        Error FileTooLarge "file-too-large",
        Error FilesChanging "files-changing",
        Error FileOpenForWriting "file-open-for-writing",
        Error FileGone "file-gone";
    Some("without it, lookups of the default relay or its credentials return a temporary \
          error, never 'no credentials'") =>
        Error SecretUnreadable "secret-unreadable",
        Error EmptySecretFile "empty-secret-file";
    Some("a next hop that smtp(8) cannot parse stops all mail") =>
        Error BadRelayHost "bad-relay-host",
        Error BadDefaultRelayHost "bad-default-relay-host";
    Some("without a login, Postfix would send without authenticating, and the relay's rejection would \
          bounce the mail") =>
        Warning HalfCredentials "half-credentials";
    Some("the relay would reject such credentials, and its rejection would bounce the mail") =>
        Error BadDefaultCredentials "bad-default-credentials";
    Some("these credentials belong to the default relay, and without one they are never used") =>
        Warning CredentialsWithoutRelay "credentials-without-relay";
    Some("RELAY_TLS is for the default relay only") =>
        Warning TlsWithoutRelay "tls-without-relay";
    Some("the variable has no effect") =>
        Warning AwsSes "aws-ses",
        Warning ForeignVariable "foreign-variable",
        Warning ServiceLink "service-link",
        Warning VariableIgnored "variable-ignored",
        Warning UnknownVariable "unknown-variable";
    Some("the server closes Postfix's connections there, and Postfix queues all mail that needs a reply") =>
        Warning NobodyAllowed "nobody-allowed";
    Some("the server does not start with invalid settings; a running server keeps its current ones") =>
        Error BadEndpoint "bad-endpoint",
        Error BadAdminAddress "bad-admin-address",
        Error NoSuchUser "no-such-user",
        Error BadNetwork "bad-network",
        Error BadSocketMode "bad-socket-mode",
        Error BadSwitch "bad-switch",
        Error BadService "bad-service",
        Error BadRecipientDelimiter "bad-recipient-delimiter",
        Error BadLogSetting "bad-log-setting",
        Error BadSetting "bad-setting",
        Error BadToml "bad-toml",
        Error UnknownSetting "unknown-setting",
        Error SettingsUnreadable "settings-unreadable";
    Some("the command measures nothing if an argument is invalid") =>
        Error BadArgument "bad-argument";
    Some("main.cf cannot refer to a server without a listener") =>
        Error NoEndpoint "no-endpoint";
    // Findings of `postconf --check`, whose messages contain the rationale.
    None =>
        Error RelayhostSet "relayhost-set",
        Error AuthOff "auth-off",
        Error SenderAuthOff "sender-auth-off",
        Error PlainForbidden "plain-forbidden",
        Error TlsOff "tls-off",
        Error PasswordInCleartext "password-in-cleartext" leaks Own,
        Warning TlsPolicyMayLower "tls-policy-may-lower",
        Warning AnonymousAllowed "anonymous-allowed",
        Error MapsSwapped "maps-swapped" leaks All,
        Error TableBefore "table-before",
        Warning TableAfter "table-after",
        Warning SaslThroughProxy "sasl-through-proxy",
        Error WrongMap "wrong-map",
        Error WrongEndpoint "wrong-endpoint",
        Error MapMissing "map-missing",
        Error ChrootHidesSocket "chroot-hides-socket",
        Error NoTableType "no-table-type",
        Error Ipv6Off "ipv6-off",
        Error NoProxymap "no-proxymap",
        Error ProxyNotApproved "proxy-not-approved",
        Warning TransportMaps "transport-maps",
        Warning SenderTransportMaps "sender-transport-maps",
        Error NullSenderKey "null-sender-key",
        Warning ProbeRelayhost "probe-relayhost",
        Error FallbackRelay "fallback-relay",
        Error NoSasl "no-sasl",
        Warning MechanismFilter "mechanism-filter",
        Error ResultDelimiter "result-delimiter",
        Warning HardBounce "hard-bounce",
        Error DebugPeers "debug-peers" leaks All,
        Error NoEhlo "no-ehlo",
        Error EhloKeywordDiscarded "ehlo-keyword-discarded",
        Warning Wrappermode "wrappermode",
        Warning ReplySize "reply-size",
        Error NoRewrite "no-rewrite",
        Error PasswordsLogged "passwords-logged" leaks All,
        Error DefaultTransport "default-transport",
        Warning RelayTransport "relay-transport",
        Error MapElsewhere "map-elsewhere",
        Warning UnusedParameter "unused-parameter",
        Warning RecipientDelimiter "recipient-delimiter",
        Warning OtherInstances "other-instances",
        Warning PoliciesMissing "policies-missing",
        Warning PolicyTableBefore "policy-table-before",
        Error NoAuthorities "no-authorities",
        Error AuthoritiesOutsideChroot "authorities-outside-chroot",
        Error TlsNotRequired "tls-not-required" leaks Own,
        Warning ConnectionReuse "connection-reuse",
        Warning BothMaps "both-maps",
        Error NoRelayService "no-relay-service",
        Error NoWrappermode "no-wrappermode",
        Error RelayLevelLow "relay-level-low" leaks Own,
        Error LoginForRelayDomains "login-for-relay-domains" leaks Own,
        Warning LoginForInnerServer "login-for-inner-server",
        Warning NoServices "no-services",
        Warning LimitsByName "limits-by-name",
        Warning Xoauth2Plugin "xoauth2-plug-in";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Code;

    #[test]
    fn each_code_has_a_unique_name_of_lower_case_words() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            let is_word = |word: &str| {
                !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            };
            assert!(name.split('-').all(is_word), "{name}");
        }
    }
}
