import { useState } from "react";

/** A message's text: its content is a string, or a list of blocks. */
function textOf({ content }) {
  return typeof content === "string" ? content : content.map((block) => block.text ?? "").join("");
}

function Message({ message }) {
  return (
    <li className={message.type}>
      {(message.tool_calls ?? []).map((call) => (
        <span className="call" key={call.id}>
          {call.name}({JSON.stringify(call.args)})
        </span>
      ))}
      {textOf(message)}
    </li>
  );
}

/** What the graph is told: LangChain's form for calls of tools that were asked about, or a plain yes or no. */
function answerTo({ value }, approved) {
  const type = approved ? "approve" : "reject";
  return value?.action_requests ? { decisions: value.action_requests.map(() => ({ type })) } : approved ? "yes" : "no";
}

function Decision({ interrupt, onAnswer }) {
  return (
    <section className="decision" aria-label="Decision needed">
      <code>{JSON.stringify(interrupt.value, null, 1)}</code>
      <button onClick={() => onAnswer(answerTo(interrupt, true))}>Approve</button>
      <button onClick={() => onAnswer(answerTo(interrupt, false))}>Reject</button>
    </section>
  );
}

/**
 * A chat, whatever fetches it.
 *
 * messages: as LangGraph keeps them. interrupt: what the graph waits for, or undefined. error: of the last run.
 */
export function Chat({ messages, interrupt, isLoading, error, onSend, onStop, onAnswer }) {
  const [question, setQuestion] = useState("");
  const send = (event) => {
    event.preventDefault();
    onSend(question);
    setQuestion("");
  };
  return (
    <>
      <ol aria-busy={isLoading} aria-live="polite">
        {messages.map((message, number) => (
          <Message key={message.id ?? number} message={message} />
        ))}
      </ol>
      {interrupt && !isLoading && <Decision interrupt={interrupt} onAnswer={onAnswer} />}
      {error && <p role="alert">{error.message ?? String(error)}</p>}
      <form onSubmit={send}>
        <input aria-label="Question" value={question} onChange={(event) => setQuestion(event.target.value)} />
        {isLoading ? (
          <button type="button" onClick={onStop}>Stop</button>
        ) : (
          <button disabled={!question.trim()}>Send</button>
        )}
      </form>
    </>
  );
}
