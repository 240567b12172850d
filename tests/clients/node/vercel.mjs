// The Vercel AI SDK over three of its providers; order.dialect picks: openai-chat (openai-compatible), openai-responses, anthropic.
// Same contract as ../programs/common.py: scenarios in on stdin, what was seen out on stdout, both JSON.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { Output, generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';

globalThis.AI_SDK_LOG_WARNINGS = false;

const schema = jsonSchema({
  type: 'object',
  properties: {
    port: { type: 'string' },
    departures: {
      type: 'array',
      items: {
        type: 'object',
        properties: { time: { type: 'string' }, seats: { type: 'integer' } },
        required: ['time', 'seats'],
        additionalProperties: false,
      },
    },
    windy: { type: 'boolean' },
  },
  required: ['port', 'departures', 'windy'],
  additionalProperties: false,
});

const tools = {
  tide_table: tool({
    description: 'High and low water.',
    inputSchema: jsonSchema({
      type: 'object',
      properties: { port: { type: 'string' }, days: { type: 'integer' } },
      required: ['port', 'days'],
      additionalProperties: false,
    }),
  }),
  ferry_times: tool({
    description: 'Departures.',
    inputSchema: jsonSchema({
      type: 'object',
      properties: { from: { type: 'string' }, return: { type: 'boolean' } },
      required: ['from', 'return'],
      additionalProperties: false,
    }),
  }),
};

function modelOf(order) {
  const baseURL = `${order.base_url}/v1`;
  if (order.dialect === 'anthropic') return createAnthropic({ baseURL, apiKey: order.key })(order.model);
  if (order.dialect === 'openai-responses') return createOpenAI({ baseURL, apiKey: order.key }).responses(order.model);
  return createOpenAICompatible({ name: 'upstream', baseURL, apiKey: order.key, includeUsage: true, supportsStructuredOutputs: true })(
    order.model,
  );
}

// What the SDK makes up itself (clocks, its own ids) and what names the way there (headers) is left out.
const MADE_UP = new Set(['timestamp', 'headers', 'messageId', 'request', 'callId']);
const kept = (value) => JSON.parse(JSON.stringify(value, (key, inner) => (MADE_UP.has(key) ? undefined : inner instanceof Error ? raised(inner) : inner)) ?? 'null');

async function whole(settings) {
  const { text, reasoningText, toolCalls, finishReason, usage, response } = await generateText(settings);
  return { text, reasoningText, toolCalls, finishReason, usage, body: response.body, model: response.modelId };
}

async function parts(settings) {
  const seen = [];
  for await (const part of streamText({ ...settings, onError: () => {} }).fullStream) {
    if (part.type === 'error') throw part.error;
    seen.push(part.type === 'start-step' ? { type: part.type } : part);
  }
  return seen;
}

async function agent(settings) {
  const working = { ...tools, tide_table: { ...tools.tide_table, execute: async ({ port, days }) => `${port}: high water 09:15, for ${days} days` } };
  const { text, steps } = await generateText({ ...settings, tools: working, stopWhen: stepCountIs(4) });
  return { text, steps: steps.map((s) => ({ text: s.text, calls: s.toolCalls, results: s.toolResults, usage: s.usage, finish: s.finishReason })) };
}

function raised(error) {
  const cause = error.lastError ?? error;
  return { class: cause.name, status: cause.statusCode ?? null, message: cause.message, body: cause.responseBody ?? null };
}

let text = '';
for await (const piece of process.stdin) text += piece;
const order = JSON.parse(text);
const base = { model: modelOf(order), maxRetries: 0, maxOutputTokens: 64 };
const kinds = {
  plain: (prompt) => whole({ ...base, prompt }),
  stream: (prompt) => parts({ ...base, prompt }),
  tools: (prompt) => whole({ ...base, prompt, tools }),
  tools_stream: (prompt) => parts({ ...base, prompt, tools }),
  schema: async (prompt) => (await generateText({ ...base, prompt, output: Output.object({ schema }) })).output,
  agent: (prompt) => agent({ ...base, prompt }),
};
const out = {};
for (const { name, kind, prompt } of order.scenarios) {
  if (!kinds[kind]) continue;
  try {
    out[name] = { saw: kept(await kinds[kind](prompt)) };
  } catch (error) {
    out[name] = { raised: raised(error) };
  }
}
process.stdout.write(JSON.stringify(out));
