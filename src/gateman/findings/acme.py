"""
Kinds of findings about certificates that gateman orders by itself. PURE.

They are warnings, because the certificate in service stays. If there is none yet, all clients are
kept out, and the doctor raises the finding to the cause. ``{authority}`` is the host of the
directory. ``{detail}`` is the text of the authority.
"""

from . import Declaration, Severity, Stage, declared_in


def _declare(code: str, problem: str, fix: str, decided: str, details: str = "") -> Declaration:
    return Declaration(
        code=code,
        stage=Stage.CERTIFICATE,
        severity=Severity.WARNING,
        problem=problem,
        fix=fix,
        decided=decided,
        details=details,
    )


# The way to the authority.

ACME_UNREACHABLE = _declare(
    "ACME_UNREACHABLE",
    "the authority {authority} cannot be reached ({reason})",
    "let this machine connect to {authority} (DNS, firewall; HTTPS_PROXY if a proxy is needed)",
    "The name of the directory's host cannot be resolved, or it accepts no connection, or it does"
    " not answer in time.",
)
ACME_UNTRUSTED = _declare(
    "ACME_UNTRUSTED",
    "the certificate of the directory {directory} is not trusted ({reason})",
    "name the authority's own root in acme.directory_cafile, or update this machine's store of"
    " roots (apt install ca-certificates)",
    "The TLS handshake with the directory fails, because its certificate cannot be verified.",
    "`SSL_CERT_FILE` and `REQUESTS_CA_BUNDLE` name another store, too.",
)
ACME_NO_DIRECTORY = _declare(
    "ACME_NO_DIRECTORY",
    "{directory} is not an ACME directory ({reason})",
    "correct acme.directory: its URL is on the authority's page about ACME",
    "It answers, and not with a JSON object that names newNonce, newAccount and newOrder (RFC 8555,"
    " section 7.1.1).",
)
ACME_AUTHORITY_FAILED = _declare(
    "ACME_AUTHORITY_FAILED",
    "the authority {authority} failed ({detail})",
    "see its status page, or wait: the order is repeated by itself",
    "It answered with an error of its own (serverInternal, a status of 500 or more), with something"
    " that RFC 8555 does not allow, or not within the deadline for an order.",
)
ACME_CLOCK = _declare(
    "ACME_CLOCK",
    "the clock of this machine differs by {difference} from that of the authority {authority}",
    "set it (timedatectl set-ntp true)",
    "The Date of the directory's answer differs by more than five minutes, or its certificate is"
    " not valid by this machine's clock.",
)

# The account.

ACME_RATE_LIMITED = _declare(
    "ACME_RATE_LIMITED",
    "the authority {authority} accepts no further order before {until} ({detail})",
    "wait: gateman orders again then by itself. Before the storage is removed, or a name is changed"
    " again and again, remember that each order counts",
    "The authority answers rateLimited, or gateman has counted as many orders as the authority"
    " allows.",
    "Let's Encrypt allows five certificates for the same names in a week, five failures of a name"
    " in an hour, and fifty certificates of a domain in a week. gateman counts its orders in the"
    " storage, so a storage that is lost at each start runs into the limit. Try out with"
    " `directory: staging`.",
)
ACME_ACCOUNT = _declare(
    "ACME_ACCOUNT",
    "the authority {authority} refuses the account ({detail})",
    "ask the authority; to begin with a new account, remove {path}",
    "The authority answers unauthorized to the account's own requests, or says that the account is"
    " deactivated or revoked.",
)
ACME_EXTERNAL_ACCOUNT = _declare(
    "ACME_EXTERNAL_ACCOUNT",
    "the authority {authority} wants its customer's account, and acme.eab is {what}",
    "copy kid and hmac_key from the authority's page to acme.eab",
    "The authority answers externalAccountRequired, or refuses the binding that was sent.",
)
ACME_EMAIL = _declare(
    "ACME_EMAIL",
    "the authority {authority} does not accept acme.email ({detail})",
    "write an address to which mail can be sent, or leave acme.email out",
    "The authority answers invalidContact or unsupportedContact.",
)

# What was ordered.

ACME_NAME_REJECTED = _declare(
    "ACME_NAME_REJECTED",
    "the authority {authority} signs no certificate for {name} ({detail})",
    "remove the name from acme.domains, or use an authority that signs for it; a name that is not"
    " public needs a private authority (acme.directory), or `gateman cert dev`",
    "The authority answers rejectedIdentifier or unsupportedIdentifier.",
)
ACME_PROFILE = _declare(
    "ACME_PROFILE",
    "the authority {authority} has no profile {profile} ({detail})",
    "write one of its profiles in acme.profile, or leave it out",
    "The directory's meta.profiles does not have it, or the authority answers invalidProfile.",
)
ACME_KEY_REFUSED = _declare(
    "ACME_KEY_REFUSED",
    "the authority {authority} does not accept a key of type {key_type} ({detail})",
    "write another type in acme.key_type, such as p256 or rsa2048",
    "The authority answers badCSR or badPublicKey.",
)
ACME_CAA = _declare(
    "ACME_CAA",
    "a CAA record forbids {authority} to sign a certificate for {name} ({detail})",
    'add a record: {name}. CAA 0 issue "{issuer}"; see what there is with: dig CAA {name}',
    "The authority answers caa. A CAA record may also be that of a domain above the name (RFC"
    " 8659).",
)

# Checking the names.

ACME_NAME_UNKNOWN = _declare(
    "ACME_NAME_UNKNOWN",
    "the authority finds no address of {name} ({detail})",
    "add an A or AAAA record for {name} that leads to this machine",
    "The authority answers dns to a challenge, or its resolver fails.",
    "A resolver that fails (SERVFAIL) has often found signatures of DNSSEC that are not valid.",
)
ACME_PORT_UNREACHABLE = _declare(
    "ACME_PORT_UNREACHABLE",
    "port {port} of {name} cannot be reached from the authority ({detail})",
    "open port {port} in the firewall and the provider's rules (security group), and let it lead to"
    " the worker; or set acme.http (port 80), or acme.dns, which needs no port",
    "The authority answers connection to the challenge: its connection was refused or timed out.",
    "An AAAA record that leads elsewhere is a common cause: authorities try IPv6 first.",
)
ACME_WRONG_SERVER = _declare(
    "ACME_WRONG_SERVER",
    "{name} leads to another server than this one: port {port} answers without the proof"
    " ({detail})",
    "let the name's A and AAAA records lead to this machine. If a proxy or a network such as"
    " Cloudflare is in front, it has the certificate: remove acme, or use acme.dns",
    "The authority reached a server, which does not know the challenge: it answers unauthorized,"
    " incorrectResponse or tls.",
    "A proxy that ends TLS (Nginx, Apache, a load balancer) never passes on acme-tls/1.",
)
ACME_NO_CHALLENGE = _declare(
    "ACME_NO_CHALLENGE",
    "the authority {authority} checks {name} by {offered} only, and gateman is to"
    " answer {possible}",
    "set acme.http for http-01, or acme.dns for dns-01",
    "None of the offered challenges is one that the options allow.",
)
ACME_DNS_COMMAND = _declare(
    "ACME_DNS_COMMAND",
    "the command of acme.dns failed for {name} ({reason})",
    "run it by hand: {command}",
    "The command cannot be started, ends with another code than 0, or does not end within"
    " acme.dns.timeout.",
)
ACME_DNS_RECORD = _declare(
    "ACME_DNS_RECORD",
    "the authority does not find the TXT record that was set for {name} ({detail})",
    "raise acme.dns.wait above {wait:g} s, and see what is there with: dig TXT {record}",
    "The authority answers dns, unauthorized or incorrectResponse to dns-01.",
)
ACME_PROCESSES = _declare(
    "ACME_PROCESSES",
    "not all processes can answer the challenge for {name} ({reason}), so the authority was not"
    " told to look",
    "see why with: gateman status SCRIPT; the order is repeated by itself",
    "Before the authority is told, each process says whether it can read the answer.",
)
ACME_STORAGE_SEPARATE = _declare(
    "ACME_STORAGE_SEPARATE",
    "{nodes} cannot read the answer to the challenge that this machine has written: their"
    " acme.storage is another folder",
    "share one folder between the machines (NFS), or use acme.dns; each machine by itself would"
    " count towards the authority's limits",
    "Nodes say over the bus which answer they read. Keys never travel on the bus.",
)

# The result.

ACME_CERTIFICATE_UNUSABLE = _declare(
    "ACME_CERTIFICATE_UNUSABLE",
    "the authority {authority} has issued a certificate that cannot be used ({reason})",
    "ask the authority; the order is repeated by itself",
    "It is not for the ordered names, or not for the key, or has expired, or cannot be read. The"
    " certificate in service stays.",
)
ACME_STORAGE = _declare(
    "ACME_STORAGE",
    "acme.storage, {folder}, cannot be used ({reason})",
    "let the service's user write to it, and see whether the disk is full",
    "A file in it cannot be read or written.",
)
ACME_STORAGE_EPHEMERAL = _declare(
    "ACME_STORAGE_EPHEMERAL",
    "acme.storage, {folder}, {reason}",
    "name a folder that lasts: in a container, one on a volume. Otherwise each start orders new"
    " certificates, and five in a week reach Let's Encrypt's limit",
    "Its file system is in memory, or is a container's own, or it is a folder for temporary files.",
)
ACME_PROCESS_FAILED = _declare(
    "ACME_PROCESS_FAILED",
    "the process that orders certificates {how}",
    "see the lines of the log above; it is started again by itself",
    "It ended with a signal or an error, or did not report in time.",
)
DECLARATIONS = declared_in(globals())
