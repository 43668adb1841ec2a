//! The ring against real files and sockets.
