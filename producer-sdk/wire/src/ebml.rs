//! EBML variable-size integers and element headers (RFC 8794 §4-6).
