/** What both pages are made of. */
import type { ComponentChildren, JSX } from "preact";
import { ApiError } from "./api";
import { state, tone } from "./format";

/** A column of a table. */
export interface Column<T> {
  title: string;
  cell: (row: T) => ComponentChildren;
  number?: boolean;
}

export function Table<T>(props: {
  rows: T[];
  columns: Column<T>[];
  id: (row: T) => string;
  empty: string;
}): JSX.Element {
  if (props.rows.length === 0) return <p class="empty">{props.empty}</p>;
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            {props.columns.map((column) => (
              <th scope="col" class={column.number ? "number" : undefined}>{column.title}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row) => (
            <tr key={props.id(row)}>
              {props.columns.map((column) => (
                <td class={column.number ? "number" : undefined}>{column.cell(row)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Section(props: {
  title: string;
  count?: number;
  actions?: ComponentChildren;
  children: ComponentChildren;
}): JSX.Element {
  return (
    <section>
      <h2>
        {props.title}
        {props.count !== undefined && <span class="count">{props.count}</span>}
        {props.actions && <span class="actions">{props.actions}</span>}
      </h2>
      {props.children}
    </section>
  );
}

export function TaskState(props: { name: string }): JSX.Element {
  return <span class={`state ${tone(props.name)}`}>{state(props.name)}</span>;
}

/** A share of a whole, as a bar. */
export function Bar(props: { part: number; whole: number }): JSX.Element {
  const share = props.whole > 0 ? Math.min(100, (props.part / props.whole) * 100) : 0;
  return (
    <div class="bar" role="img" aria-label={`${Math.round(share)} %`}>
      <span style={{ width: `${share}%` }} />
    </div>
  );
}

/** Why something failed, in the API's own words. */
export function Problem(props: { error?: Error; what: string }): JSX.Element | null {
  if (!props.error) return null;
  const details = props.error instanceof ApiError ? props.error.details : "";
  return (
    <section class="problem" role="alert">
      <strong>{props.what}</strong> {props.error.message}
      {details && <pre>{details}</pre>}
    </section>
  );
}
