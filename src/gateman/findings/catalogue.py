"""All kinds of findings, in the order in which a client meets them."""

from . import Declaration
from .acme import DECLARATIONS as _ACME
from .certificates import DECLARATIONS as _CERTIFICATES
from .handshakes import DECLARATIONS as _HANDSHAKES
from .lasting import DECLARATIONS as _LASTING
from .network import DECLARATIONS as _NETWORK
from .services import DECLARATIONS as _SERVICES

CATALOGUE: dict[str, Declaration] = {
    one.code: one
    for one in sorted(
        (*_NETWORK, *_CERTIFICATES, *_ACME, *_HANDSHAKES, *_LASTING, *_SERVICES),
        key=lambda declaration: declaration.stage,
    )
}
