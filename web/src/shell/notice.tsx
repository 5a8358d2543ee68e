import type { ReactNode } from "react";

interface NoticeProps {
  title: string;
  children?: ReactNode;
  action?: { label: string; run: () => void };
  isBusy?: boolean;
}

/** What a screen says where it has nothing else to show. */
export function Notice({ title, children, action, isBusy }: NoticeProps) {
  return (
    <div className="notice" role="status">
      {isBusy && <span className="spinner" aria-hidden="true" />}
      <h2>{title}</h2>
      {children && <p>{children}</p>}
      {action && (
        <button type="button" onClick={action.run}>
          {action.label}
        </button>
      )}
    </div>
  );
}
