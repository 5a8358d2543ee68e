//! Element identifiers (RFC 9559 §5, RFC 8794 §11).
