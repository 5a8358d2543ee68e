//! Every route of the service, on one screen.
