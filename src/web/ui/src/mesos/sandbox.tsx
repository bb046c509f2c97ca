/** The files of a task, read from its agent. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get } from "../shared/api";
import { ago, number } from "../shared/format";
import { Problem, Section, Table } from "../shared/parts";
import { agentUrl } from "./state";
import type { State } from "./state";

interface File {
  path: string;
  size: number;
  mtime: number;
  mode: string;
}

interface Executor {
  id: string;
  directory: string;
}

interface AgentState {
  frameworks: { id: string; executors: Executor[]; completed_executors: Executor[] }[];
  completed_frameworks: { id: string; executors: Executor[]; completed_executors: Executor[] }[];
}

async function sandboxOf(url: string, frameworkId: string, executorId: string): Promise<string> {
  const state = await get<AgentState>(`${url}/state`);
  const framework = [...state.frameworks, ...state.completed_frameworks].find((one) => one.id === frameworkId);
  const executors = framework ? [...framework.executors, ...framework.completed_executors] : [];
  const directory = executors.find((one) => one.id === executorId)?.directory;
  if (!directory) throw new Error("The agent has no sandbox of it any more.");
  return directory;
}

export function Sandbox(props: {
  state: State;
  agentId: string;
  frameworkId: string;
  executorId: string;
  path: string;
}): JSX.Element {
  const [files, setFiles] = useState<File[]>();
  const [error, setError] = useState<Error>();
  const agent = props.state.slaves.find((one) => one.id === props.agentId);
  const url = agent ? agentUrl(agent) : undefined;

  useEffect(() => {
    if (!url) {
      setError(new Error("Its agent is not registered any more."));
      return;
    }
    let ended = false;
    const read = async (): Promise<void> => {
      const path = props.path || (await sandboxOf(url, props.frameworkId, props.executorId));
      const found = await get<File[]>(`${url}/files/browse?path=${encodeURIComponent(path)}`);
      if (!ended) setFiles(found);
    };
    setError(undefined);
    read().catch((reason: unknown) => {
      if (!ended) setError(reason instanceof Error ? reason : new Error(String(reason)));
    });
    return () => {
      ended = true;
    };
  }, [url, props.frameworkId, props.executorId, props.path]);

  const name = (file: File): string => file.path.slice(file.path.lastIndexOf("/") + 1);
  const here = `#/sandbox/${props.agentId}/${props.frameworkId}/${encodeURIComponent(props.executorId)}`;
  return (
    <>
      <Problem error={error} what="The sandbox can't be shown." />
      <Section title="Sandbox">
        <p class="muted"><code>{props.executorId}</code> on {agent?.hostname ?? props.agentId}</p>
        <Table
          rows={files ?? []}
          id={(file) => file.path}
          empty={files ? "The directory is empty." : "Reading…"}
          columns={[
            { title: "Mode", cell: (file) => <code>{file.mode}</code> },
            { title: "Size", number: true, cell: (file) => number(file.size) },
            { title: "Changed", cell: (file) => ago(file.mtime) },
            {
              title: "Name",
              cell: (file) =>
                file.mode.startsWith("d") ? (
                  <a href={`${here}?path=${encodeURIComponent(file.path)}`}>{name(file)}/</a>
                ) : (
                  <a href={`${url ?? ""}/files/download?path=${encodeURIComponent(file.path)}`}>{name(file)}</a>
                ),
            },
          ]}
        />
      </Section>
    </>
  );
}
