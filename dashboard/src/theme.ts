import { useEffect, useState } from "react";

const THEMES = ["auto", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];
const STORED = "signalbox.theme";

function read(): Theme {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem(STORED)) ?? "auto";
  } catch {
    return "auto";
  }
}

/** The theme and what changes it to the next. auto: as the system has it. */
export function useTheme(): [Theme, () => void] {
  const [theme, setTheme] = useState(read);
  useEffect(() => {
    if (theme === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
    try {
      localStorage.setItem(STORED, theme);
    } catch {
      // it holds until the page is left
    }
  }, [theme]);
  return [theme, () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]!)];
}
