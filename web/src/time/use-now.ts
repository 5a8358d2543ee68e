import { useEffect, useState } from "react";
import { useService } from "../service";

/** The service's clock, second by second. */
export function useNow(): number {
  const { clock } = useService();
  const [nowMs, setNowMs] = useState(() => clock.nowMs());
  useEffect(() => {
    const timer = setInterval(() => setNowMs(clock.nowMs()), 1000);
    return () => clearInterval(timer);
  }, [clock]);
  return nowMs;
}
