//! Error codes: u16, never reused. The top bit is the class: set means the same request may
//! succeed later unchanged (retriable), clear means it will not (fatal to the request).

/// Set in the codes of errors that may pass by themselves.
pub const RETRIABLE_BIT: u16 = 0x8000;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $value:expr, $label:literal, kafka $kafka:expr,
       amqp $amqp:expr, sqs $sqs:literal;)*) => {
        /// What went wrong with a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum ErrorCode { $($(#[doc = $doc])* $name = $value,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code with this number.
            pub const fn from_u16(value: u16) -> Option<ErrorCode> {
                $(if value == $value { return Some(ErrorCode::$name); })*
                None
            }

            /// Its stable name, as results and logs print it.
            pub const fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => $label,)* }
            }

            /// The code that a Kafka client understands best.
            pub const fn kafka(self) -> i16 {
                match self { $(ErrorCode::$name => $kafka,)* }
            }

            /// The reply code that an AMQP 0-9-1 client understands best.
            pub const fn amqp(self) -> u16 {
                match self { $(ErrorCode::$name => $amqp,)* }
            }

            /// The error that an SQS client understands best.
            pub const fn sqs(self) -> &'static str {
                match self { $(ErrorCode::$name => $sqs,)* }
            }
        }
    };
}

codes! {
    /// No error: only inside replies that answer per partition.
    None = 0, "none", kafka 0, amqp 200, sqs "";
    /// The bytes do not follow the protocol.
    Malformed = 1, "malformed", kafka 42, amqp 501, sqs "InvalidParameterValue";
    /// A checksum does not match its bytes.
    CorruptMessage = 2, "corrupt_message", kafka 2, amqp 501, sqs "InvalidParameterValue";
    /// A frame, batch or name is longer than its limit.
    TooLarge = 3, "too_large", kafka 10, amqp 311, sqs "InvalidParameterValue";
    /// The protocol, kind version or a must-understand flag is not spoken here.
    UnsupportedVersion = 4, "unsupported_version", kafka 35, amqp 540, sqs "UnsupportedOperation";
    /// No such request kind.
    UnknownKind = 5, "unknown_kind", kafka 35, amqp 540, sqs "InvalidAction";
    /// A request came before hello, or hello came twice.
    HelloExpected = 6, "hello_expected", kafka 42, amqp 503, sqs "AccessDenied";
    /// No topic has this id or name.
    UnknownTopic = 7, "unknown_topic", kafka 3, amqp 404, sqs "QueueDoesNotExist";
    /// The topic has no such partition.
    UnknownPartition = 8, "unknown_partition", kafka 3, amqp 404, sqs "QueueDoesNotExist";
    /// The topic exists already.
    TopicExists = 9, "topic_exists", kafka 36, amqp 406, sqs "QueueNameExists";
    /// The name is empty, too long, or has characters other than letters, digits, `.`, `_`, `-`.
    InvalidTopicName = 10, "invalid_topic_name", kafka 17, amqp 403, sqs "InvalidParameterValue";
    /// A number in the request is out of its range.
    InvalidRequest = 11, "invalid_request", kafka 42, amqp 403, sqs "InvalidParameterValue";
    /// The offset is below the log's start or above its end.
    OffsetOutOfRange = 12, "offset_out_of_range", kafka 1, amqp 406, sqs "InvalidParameterValue";
    /// The record batch is not what its header claims.
    InvalidRecord = 13, "invalid_record", kafka 87, amqp 501, sqs "InvalidMessageContents";
    /// Producer ids and transactions are not served yet.
    ProducerIdUnsupported = 14, "producer_id_unsupported", kafka 35, amqp 540,
        sqs "UnsupportedOperation";
    /// Compressed batches with a codec that is not known here.
    UnsupportedCompression = 15, "unsupported_compression", kafka 76, amqp 540,
        sqs "UnsupportedOperation";
    /// The bytes at this offset are damaged on the device.
    DataCorrupt = 16, "data_corrupt", kafka 56, amqp 541, sqs "InternalFailure";
    /// A limit of the whole deployment is reached (topics, partitions).
    LimitReached = 17, "limit_reached", kafka 44, amqp 506, sqs "OverLimit";
    /// The device failed for good: nothing is taken until the broker is restarted, reading goes on.
    ReadOnly = 18, "read_only", kafka 56, amqp 541, sqs "InternalFailure";
    /// The partition's newest records are damaged, and nobody knows how many there were: it is not
    /// written to until `pelton log repair` has settled its end.
    EndUnknown = 19, "end_unknown", kafka 56, amqp 541, sqs "InternalFailure";
    /// No queue has this id or name.
    UnknownQueue = 20, "unknown_queue", kafka 3, amqp 404, sqs "QueueDoesNotExist";
    /// A queue of this name exists, and is not like that.
    QueueMismatch = 21, "queue_mismatch", kafka 36, amqp 406, sqs "QueueNameExists";
    /// No message of this sequence number waits to be settled.
    UnknownDelivery = 22, "unknown_delivery", kafka 121, amqp 406, sqs "ReceiptHandleIsInvalid";
    /// The message is not leased to whoever settles it any more.
    LeaseEnded = 23, "lease_ended", kafka 121, amqp 406, sqs "MessageNotInflight";
    /// The queue has consumers, or is where another's dead letters go.
    QueueInUse = 24, "queue_in_use", kafka 68, amqp 406, sqs "UnsupportedOperation";
    /// The queue has messages.
    QueueNotEmpty = 25, "queue_not_empty", kafka 68, amqp 406, sqs "UnsupportedOperation";
    /// The queue belongs to another connection alone.
    QueueLocked = 26, "queue_locked", kafka 29, amqp 405, sqs "AccessDenied";
    /// No such consumer on this connection.
    UnknownConsumer = 27, "unknown_consumer", kafka 25, amqp 404, sqs "InvalidParameterValue";
    /// The consumer did not settle a message in time.
    ConsumerTimedOut = 28, "consumer_timed_out", kafka 25, amqp 406, sqs "MessageNotInflight";
    /// A shared limit has no room now: wait and send it again.
    Overloaded = 0x8001, "overloaded", kafka 7, amqp 506, sqs "RequestThrottled";
    /// The device refused a write; the record may or may not be there.
    StorageFailed = 0x8002, "storage_failed", kafka 56, amqp 541, sqs "InternalFailure";
    /// The partition is not served by this shard (metadata has changed).
    NotOwner = 0x8003, "not_owner", kafka 6, amqp 541, sqs "ServiceUnavailable";
    /// The request's time ran out; the record may or may not be there.
    TimedOut = 0x8004, "timed_out", kafka 7, amqp 541, sqs "ServiceUnavailable";
    /// The broker is stopping.
    ShuttingDown = 0x8005, "shutting_down", kafka 8, amqp 320, sqs "ServiceUnavailable";
    /// The device is full: producing is refused, reading and deleting go on.
    StorageFull = 0x8006, "storage_full", kafka 56, amqp 506, sqs "OverLimit";
    /// The queue has as many messages or bytes as it may.
    QueueFull = 0x8007, "queue_full", kafka 89, amqp 506, sqs "OverLimit";
}

impl ErrorCode {
    /// Its number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether the same request may succeed later.
    pub const fn is_retriable(self) -> bool {
        self.number() & RETRIABLE_BIT != 0
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
