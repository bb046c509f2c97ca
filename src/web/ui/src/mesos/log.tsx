/** The end of a daemon's log, read on as it grows. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "../shared/api";
import { Problem, Section } from "../shared/parts";
import { usePolled } from "../shared/poll";

interface Part {
  data: string;
  offset: number;
}

/** How much is shown at first, and at most, in characters. */
const FIRST = 50_000;
const MOST = 500_000;

export function Log(props: { title: string; url: string; path: string }): JSX.Element {
  const [text, setText] = useState("");
  const offset = useRef<number | undefined>(undefined);
  const end = useRef<HTMLDivElement>(null);
  const file = `path=${encodeURIComponent(props.path)}`;

  const { error } = usePolled(async () => {
    if (offset.current === undefined) {
      const size = (await get<Part>(`${props.url}/files/read?${file}&offset=-1`)).offset;
      offset.current = Math.max(0, size - FIRST);
    }
    const part = await get<Part>(`${props.url}/files/read?${file}&offset=${offset.current}`);
    offset.current += new TextEncoder().encode(part.data).length;
    if (part.data) setText((known) => (known + part.data).slice(-MOST));
  });
  useEffect(() => end.current?.scrollIntoView(), [text]);

  const isMissing = error instanceof ApiError && error.status === 404;
  return (
    <>
      {!isMissing && <Problem error={error} what="The log can't be shown." />}
      <Section title={props.title}>
        {isMissing && <p class="empty">It writes no log file: --log_dir or --external_log_file makes one seen here.</p>}
        {text && <p><a href={`${props.url}/files/download?${file}`}>Download</a></p>}
        <pre class="log">{text}</pre>
        <div ref={end} />
      </Section>
    </>
  );
}
