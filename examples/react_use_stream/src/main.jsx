import { useStream } from "@langchain/langgraph-sdk/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

import { Chat } from "./chat.jsx";
import { putThreadInAddress, settings, threadOfAddress } from "./settings.js";

function App() {
  const [thread, setThread] = useState(threadOfAddress);
  const stream = useStream({
    ...settings,
    threadId: thread,
    onThreadId: (id) => {
      putThreadInAddress(id);
      setThread(id);
    },
    // A reload in mid-answer comes back to the same run, and misses nothing.
    reconnectOnMount: true,
  });
  return (
    <Chat
      messages={stream.messages}
      interrupt={stream.interrupt}
      isLoading={stream.isLoading}
      error={stream.error}
      onSend={(question) => {
        const asked = { type: "human", content: question, id: crypto.randomUUID() };
        stream.submit(
          { messages: [asked] },
          { optimisticValues: (before) => ({ ...before, messages: [...(before.messages ?? []), asked] }) },
        );
      }}
      onStop={() => stream.stop()}
      onAnswer={(answer) => stream.submit(undefined, { command: { resume: answer } })}
    />
  );
}

createRoot(document.getElementById("root")).render(<App />);
