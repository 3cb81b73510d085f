// The example's chat on the newest useStream, which speaks version 2 of the protocol.
import { useStream } from "@langchain/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

import { Chat } from "../../examples/react_use_stream/src/chat.jsx";
import { putThreadInAddress, settings, threadOfAddress } from "../../examples/react_use_stream/src/settings.js";

function App() {
  const [thread, setThread] = useState(threadOfAddress);
  const stream = useStream({
    ...settings,
    threadId: thread,
    onThreadId: (id) => {
      putThreadInAddress(id);
      setThread(id);
    },
  });
  return (
    <Chat
      messages={stream.messages}
      interrupt={stream.interrupt}
      isLoading={stream.isLoading}
      error={stream.error}
      onSend={(question) => stream.submit({ messages: [{ type: "human", content: question, id: crypto.randomUUID() }] })}
      onStop={() => stream.stop()}
      // The id names it: without one the hook knows only what the stream has replayed, which a click after a reload can be faster than.
      onAnswer={(answer) => stream.respond(answer, { interruptId: stream.interrupt.id })}
    />
  );
}

createRoot(document.getElementById("root")).render(<App />);
