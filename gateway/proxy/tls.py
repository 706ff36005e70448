"""The TLS contexts of both directions, made from the settings, and what a failed handshake with an upstream means.

Invariant: HTTP/1.1 is the one protocol that is ever agreed on; nothing below TLS 1.2 is spoken; a certificate is not
believed without being asked for in words (`verify = false`). What is wrong with a file has been said when the settings
were read (`gateway.settings.certificates`); it is said again here, should the file have changed since.
"""

import ssl
from typing import TYPE_CHECKING, Final

from gateway.errors import ConfigProblem, ConfigurationError
from gateway.settings.certificates import UnusableFile, load_authorities, load_pair

if TYPE_CHECKING:
    from gateway.settings.model import ServerTlsSettings, UpstreamSettings

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_PROTOCOLS: Final = ["http/1.1"]

_NOT_YET_VALID: Final = 9  # X509_V_ERR_…, x509_vfy.h
_EXPIRED: Final = 10
_NAME_MISMATCHES: Final = frozenset({62, 64})
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})

_NOT_ACCEPTED: Final = "it does not accept our client certificate, upstreams.tls.certificate_file"
_NO_CERTIFICATE: Final = "it asks for a client certificate: name one in upstreams.tls.certificate_file"
_NO_TLS: Final = "what it speaks is no TLS: is its address http://, or the port another one?"
_NO_VERSION: Final = "it speaks no version of TLS from upstreams.tls.minimum_version on"
_MEANINGS: Final = {
    "CERTIFICATE_REQUIRED": _NO_CERTIFICATE,
    "HANDSHAKE_FAILURE": "it shares no cipher with us, or wants a client certificate (upstreams.tls.certificate_file)",
    "CERTIFICATE_EXPIRED": "our client certificate, upstreams.tls.certificate_file, has expired: renew it, then reload",
    "UNKNOWN_CA": _NOT_ACCEPTED,
    "BAD_CERTIFICATE": _NOT_ACCEPTED,
    "CERTIFICATE_UNKNOWN": _NOT_ACCEPTED,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "PROTOCOL_VERSION": _NO_VERSION,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
}
"""By what OpenSSL calls the alert that came, or what was wrong with what came."""


def server_context(settings: "ServerTlsSettings") -> ssl.SSLContext:
    """For the proxy's listener; raises ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.minimum_version]
    # Nobody here renegotiates or compresses, and either would be a lever for somebody who wants to do harm.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(_PROTOCOLS)
    try:
        load_pair(context, settings.certificate_file, settings.private_key_file)
    except UnusableFile as error:
        raise _refused(f"server.tls.{error.setting}", error) from error
    return context


def upstream_context(settings: "UpstreamSettings") -> ssl.SSLContext:
    """For the https targets of an upstream; raises ConfigurationError."""
    tls = settings.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[tls.minimum_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(_PROTOCOLS)
    try:
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif tls.ca_file is not None:
            load_authorities(context, tls.ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if tls.certificate_file is not None and tls.private_key_file is not None:
            load_pair(context, tls.certificate_file, tls.private_key_file)
    except UnusableFile as error:
        raise _refused(f"upstreams.{settings.name}.tls.{error.setting}", error) from error
    return context


def _refused(key: str, error: UnusableFile) -> ConfigurationError:
    return ConfigurationError([ConfigProblem("settings", key, str(error))])


def explained(error: Exception, name: str) -> str:
    """What a failed handshake with a target means, and how to mend it. `name` is what its certificate should say."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_refused(error, name)
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    words = reason.replace("_", " ").lower()
    for part, meaning in _MEANINGS.items():
        if part in reason:
            return f"{meaning} ({words})"
    return f"TLS failed: {words or str(error) or type(error).__name__}"


def _certificate_refused(error: ssl.SSLCertVerificationError, name: str) -> str:
    code, said = error.verify_code, error.verify_message
    if code == _EXPIRED:
        return f"its certificate has expired: renew it there ({said})"
    if code == _NOT_YET_VALID:
        return f"its certificate is not valid yet: compare the clocks ({said})"
    if code in _NAME_MISMATCHES:
        return f"its certificate is not for {name}: set upstreams.tls.server_name to a name that it has ({said})"
    if code in _UNKNOWN_AUTHORITY:
        return f"its certificate is from an unknown authority: name that one in upstreams.tls.ca_file ({said})"
    return f"its certificate is refused: {said}"
