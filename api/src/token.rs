//! The service's own keys: tokens it signs, tokens it trusts (RFC 7519, RFC 8725, RFC 9068).
