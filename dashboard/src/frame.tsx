/** What stands around every page: where one can go, whether the connection stands, who is signed in. */
import { useConvexConnectionState } from "convex/react";
import { useEffect, useRef, useState, type ComponentType } from "react";
import { AgentsPage } from "./pages/agents";
import { ComparePage } from "./pages/compare";
import { LivePage } from "./pages/live";
import { OverviewPage } from "./pages/overview";
import { SchedulesPage } from "./pages/schedules";
import { TaskPage } from "./pages/task";
import { TasksPage } from "./pages/tasks";
import { WorkersPage } from "./pages/workers";
import { Fence } from "./parts/states";
import { hrefOf, useRoute } from "./route";
import { useSession } from "./session";
import { useTheme } from "./theme";

/** A page is named by the first part of the path; the second, if any, is the thing that it shows, what follows a part of it. */
export type PageProps = { name: string | undefined; rest?: readonly string[] };
type Page = { title: string; at: ComponentType<PageProps> };

const PAGES: Record<string, Page> = {
  "": { title: "Overview", at: OverviewPage },
  live: { title: "Live", at: LivePage },
  tasks: {
    title: "Tasks",
    at: ({ name, rest = [] }) => {
      if (name === undefined) return <TasksPage />;
      if (rest[0] === "compare" && rest[1] !== undefined) return <ComparePage task={name} other={rest[1]} />;
      return <TaskPage task={name} key={name} />;
    },
  },
  agents: { title: "Agents", at: AgentsPage },
  schedules: { title: "Schedules", at: SchedulesPage },
  workers: { title: "Workers", at: WorkersPage },
};

export function Frame() {
  const { path } = useRoute();
  const [place = "", name, ...rest] = path;
  const page = Object.hasOwn(PAGES, place) ? PAGES[place] : undefined;
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const title = page?.title ?? "No such page";
  useEffect(() => {
    document.title = `${name ?? title} · Signalbox`;
    if (!first.current) main.current?.focus({ preventScroll: false });
    first.current = false;
  }, [title, name]);
  return (
    <div className="frame">
      <button className="skip" onClick={() => main.current?.focus()}>
        Skip to the page
      </button>
      <header className="bar">
        <a className="brand" href={hrefOf([])}>
          Signalbox
        </a>
        <nav aria-label="Pages">
          {Object.entries(PAGES).map(([to, { title }]) => (
            <a key={to} href={hrefOf(to === "" ? [] : [to])} aria-current={to === place ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <Who />
      </header>
      <Connection />
      <main ref={main} tabIndex={-1}>
        <Fence key={path.join("/")}>
          {page === undefined ? (
            <>
              <h1>No such page</h1>
              <p>
                Nothing is at this address. <a href={hrefOf([])}>Go to the overview</a>
              </p>
            </>
          ) : (
            <page.at name={name} rest={rest} />
          )}
        </Fence>
      </main>
    </div>
  );
}

function Who() {
  const { caller, signOut } = useSession();
  const [theme, nextTheme] = useTheme();
  return (
    <div className="who">
      <span title={`Key: ${caller.label}`}>{caller.role}</span>
      <button className="button quiet" onClick={nextTheme} aria-label={`Theme: ${theme}. Change it`}>
        {theme}
      </button>
      <button className="button quiet" onClick={() => signOut()}>
        Sign out
      </button>
    </div>
  );
}

const UNSTEADY_MS = 700; // shorter breaks are not worth a word

function Connection() {
  const { isWebSocketConnected } = useConvexConnectionState();
  const { url } = useSession();
  const [late, setLate] = useState(false);
  const lost = late && !isWebSocketConnected;
  useEffect(() => {
    if (isWebSocketConnected) return;
    const timer = setTimeout(() => setLate(true), UNSTEADY_MS);
    return () => {
      clearTimeout(timer);
      setLate(false);
    };
  }, [isWebSocketConnected]);
  return (
    <div role="status" className="connection">
      {lost ? (
        <p>
          The connection to {url} is lost. What you see is as it last was; what you click is done once it is
          back. Trying again…
        </p>
      ) : null}
    </div>
  );
}
