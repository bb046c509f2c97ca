/** Polling: a value that is read again and again, less often while reading fails or nobody looks. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

const PAUSE = 3000;
const PAUSE_MAX = 30_000;

export interface Polled<T> {
  /** The last value read. */
  value?: T;
  /** Why the last reading failed. */
  error?: Error;
  /** Reads again now. */
  refresh: () => void;
}

export function usePolled<T>(read: () => Promise<T>): Polled<T> {
  const [value, setValue] = useState<T>();
  const [error, setError] = useState<Error>();
  const reader = useRef(read);
  reader.current = read;
  const wake = useRef<() => void>(() => undefined);

  useEffect(() => {
    let ended = false;
    let timer: number | undefined;
    let pause = PAUSE;
    const round = async (): Promise<void> => {
      window.clearTimeout(timer);
      try {
        const next = await reader.current();
        if (ended) return;
        setValue(next);
        setError(undefined);
        pause = PAUSE;
      } catch (reason) {
        if (ended) return;
        setError(reason instanceof Error ? reason : new Error(String(reason)));
        pause = Math.min(pause * 2, PAUSE_MAX);
      }
      timer = window.setTimeout(() => void round(), document.hidden ? PAUSE_MAX : pause);
    };
    wake.current = () => void round();
    const seen = (): void => {
      if (!document.hidden) wake.current();
    };
    document.addEventListener("visibilitychange", seen);
    void round();
    return () => {
      ended = true;
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, []);

  const refresh = useCallback(() => wake.current(), []);
  return { value, error, refresh };
}

/** The part of the address after `#`, as it changes. */
export function useRoute(): string {
  const [route, setRoute] = useState(location.hash.slice(1));
  useEffect(() => {
    const changed = (): void => setRoute(location.hash.slice(1));
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}
