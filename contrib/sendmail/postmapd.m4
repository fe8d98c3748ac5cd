divert(-1)
# The maps of postmapd in sendmail. Include this file at the end of sendmail.mc, after its mailers.
# contrib/guides/sendmail-and-exim.md describes it. Tabs separate the two sides of a rule.
divert(0)dnl
LOCAL_CONFIG
# The authorities of certificates, and the names in that of a relay, for the comparison below.
O CACertFile=/etc/ssl/certs/ca-certificates.crt
O CACertPath=/etc/ssl/certs
O SetCertAltnames=true
# Mail of another sender never uses a connection again that has logged in.
O ConnectionCacheSize=0
# Without -T, sendmail would hide a temporary error from the rules: it would then send without a login.
Krelayhost socket -T<CANNOTTELL> inet:10451@127.0.0.1
Ksasl socket -T<CANNOTTELL> inet:10451@127.0.0.1
# A prefix and a value as one quoted token.
Kpostmapd_quote regex -q -s1 ^(.*)$
# Relays that expect no login: C{PostmapdNoLogin} relay9.org
C{PostmapdNoLogin}

LOCAL_RULE_0
# Only envelope recipients use the relay of the sender, and only those that are not local.
R$*				$: $&{addr_type} $| $1
Re r $| $* < @ $=w . > $*	$: $1 < @ $2 . > $3
Re r $| $* < @ $* > $*		$: $>PostmapdRelay $1 < @ $2 > $3
R$* $| $*			$: $2

LOCAL_RULESETS
SPostmapdRelay
R$*				$: < $&f > $1
R< < $* > > $*			$: < $1 > $2
R< > $*				$: < "<>" > $1
R< $+ > $*			$: < $(relayhost $1 $: NOTFOUND $) > $2
R< $* < CANNOTTELL > > $*	$#error $@ 4.3.0 $: "451 postmapd cannot tell the relay of this sender"
R< NOTFOUND > $*		$@ $1
R< [ $+ ] : 587 > $*		$#postmapd $@ [ $1 ] $: $2
R$*				$#error $@ 4.3.5 $: "451 the next hop of this sender is not [host]:587"

# The login for a relay. The name in its certificate must be that of the next hop. $#temp defers the mail. sendmail takes PERM
# (this user may not query the map) for not found, so that not found defers the mail, too.
Sauthinfo
R$*				$: < $&{verify} > $&h
R< $* > [ $+ ]			$: < $1 > $2 $| $2
R< $* > $* [ $* ] $*		$#temp
R< OK > $* $| $={cert_altnames}	$: $1
R< OK > $- . $+ $| $*		$: < OK > $1 . $2 $| * . $2
R< OK > $* $| $={cert_altnames}	$: $1
R< $* > $* $| $*		$#temp
R< $* > $*			$@ ok
R$+				$: $1 $| $(sasl $&f $: NOTFOUND $)
R$+ $| NOTFOUND			$: $1 $| $(sasl $1 $: NOTFOUND $)
R$+ $| NOTFOUND			$: $1 $| $(sasl [ $1 ] : 587 $: NOTFOUND $)
R$* < CANNOTTELL >		$#temp
R$={PostmapdNoLogin} $| NOTFOUND	$@ ok
R$+ $| $* : $*			$# $(postmapd_quote "U:%1" $@ $2 $) $(postmapd_quote "I:%1" $@ $2 $) $(postmapd_quote "P:%1" $@ $3 $) "M:PLAIN LOGIN"
R$*				$#temp

MAILER_DEFINITIONS
Mpostmapd,	P=[IPC], F=mDFMuXa8, S=EnvFromSMTP/HdrFromSMTP, R=MasqSMTP, E=\r\n, L=2040, T=DNS/RFC822/SMTP, A=TCP $h 587
