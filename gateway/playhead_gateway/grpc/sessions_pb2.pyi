from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Content(_message.Message):
    __slots__ = ("text", "blocks_json")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_JSON_FIELD_NUMBER: _ClassVar[int]
    text: str
    blocks_json: str
    def __init__(self, text: _Optional[str] = ..., blocks_json: _Optional[str] = ...) -> None: ...

class StartRequest(_message.Message):
    __slots__ = ("agent", "content", "metadata_json")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    agent: str
    content: Content
    metadata_json: str
    def __init__(self, agent: _Optional[str] = ..., content: _Optional[_Union[Content, _Mapping]] = ..., metadata_json: _Optional[str] = ...) -> None: ...

class StartReply(_message.Message):
    __slots__ = ("session", "status", "last_seq", "run_id", "message_id")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    session: str
    status: str
    last_seq: int
    run_id: str
    message_id: str
    def __init__(self, session: _Optional[str] = ..., status: _Optional[str] = ..., last_seq: _Optional[int] = ..., run_id: _Optional[str] = ..., message_id: _Optional[str] = ...) -> None: ...

class SayRequest(_message.Message):
    __slots__ = ("session", "content", "mode")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    session: str
    content: Content
    mode: str
    def __init__(self, session: _Optional[str] = ..., content: _Optional[_Union[Content, _Mapping]] = ..., mode: _Optional[str] = ...) -> None: ...

class SayReply(_message.Message):
    __slots__ = ("run_id", "message_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    message_id: str
    def __init__(self, run_id: _Optional[str] = ..., message_id: _Optional[str] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("session", "run_id")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    session: str
    run_id: str
    def __init__(self, session: _Optional[str] = ..., run_id: _Optional[str] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AnswerRequest(_message.Message):
    __slots__ = ("session", "question_id", "content_json")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    QUESTION_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_JSON_FIELD_NUMBER: _ClassVar[int]
    session: str
    question_id: str
    content_json: str
    def __init__(self, session: _Optional[str] = ..., question_id: _Optional[str] = ..., content_json: _Optional[str] = ...) -> None: ...

class AnswerReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class CloseReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class GetReply(_message.Message):
    __slots__ = ("session_json",)
    SESSION_JSON_FIELD_NUMBER: _ClassVar[int]
    session_json: str
    def __init__(self, session_json: _Optional[str] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("session", "after", "types", "final_deltas", "until")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    FINAL_DELTAS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    session: str
    after: str
    types: _containers.RepeatedScalarFieldContainer[str]
    final_deltas: bool
    until: str
    def __init__(self, session: _Optional[str] = ..., after: _Optional[str] = ..., types: _Optional[_Iterable[str]] = ..., final_deltas: _Optional[bool] = ..., until: _Optional[str] = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("event", "control")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    event: Event
    control: Control
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ..., control: _Optional[_Union[Control, _Mapping]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("type", "cursor", "json")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    type: str
    cursor: str
    json: str
    def __init__(self, type: _Optional[str] = ..., cursor: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class Control(_message.Message):
    __slots__ = ("name", "json", "retry_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    RETRY_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    json: str
    retry_ms: int
    def __init__(self, name: _Optional[str] = ..., json: _Optional[str] = ..., retry_ms: _Optional[int] = ...) -> None: ...
