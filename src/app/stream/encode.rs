//! Encoders: the bytes of a stream's messages on the wire of its subscribers.
//!
//! | file | wire |
//! |---|---|
//! | [`rtmp`] | RTMP chunks, for players and forwarders |
//!
//! The packet log holds its messages as RTMP chunks, since nearly all subscribers use them. Another wire, such as FLV,
//! is another file here: the state of one subscriber, and what all subscribers of that wire share. The latter exists
//! only while the stream has such a subscriber.

pub(super) mod rtmp;
