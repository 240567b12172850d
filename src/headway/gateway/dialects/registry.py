"""Every dialect by name. A new one is a module beside these and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from headway.calls.conversation import DialectName
from headway.gateway.dialects.anthropic import AnthropicMessages
from headway.gateway.dialects.openai_chat import OpenAIChat
from headway.gateway.dialects.port import Dialect
from headway.gateway.dialects.responses import OpenAIResponses

REGISTRY: Mapping[DialectName, Dialect] = MappingProxyType(
    {
        DialectName.OPENAI_CHAT: OpenAIChat(),
        DialectName.OPENAI_RESPONSES: OpenAIResponses(),
        DialectName.ANTHROPIC: AnthropicMessages(),
    }
)
