// Types of gateman-mini-program.js.

/** What `wx` of WeChat and `uni` of uni-app have in common. */
export interface Platform {
  connectSocket(options: any): any;
  onNetworkStatusChange?(listener: (result: { isConnected: boolean }) => void): void;
  offNetworkStatusChange?(listener: (result: { isConnected: boolean }) => void): void;
  onAppShow?(listener: (options?: any) => void): void;
  offAppShow?(listener: (options?: any) => void): void;
}

/** More options of `connectSocket`, such as `header` or `timeout` (milliseconds). */
export interface SocketOptions {
  header?: Record<string, string>;
  timeout?: number;
  [option: string]: unknown;
}

/** The part of the WebSocket interface of browsers that a client library uses. */
export interface MiniProgramWebSocket {
  readonly url: string;
  readonly protocol: string;
  readonly readyState: 0 | 1 | 2 | 3;
  binaryType: "arraybuffer";
  onopen: ((event: { type: "open" }) => void) | null;
  onmessage: ((event: { type: "message"; data: string | ArrayBuffer }) => void) | null;
  onerror: ((event: { type: "error"; message: string }) => void) | null;
  onclose:
    | ((event: { type: "close"; code: number; reason: string; wasClean: boolean }) => void)
    | null;
  /** Sends a message; throws if the connection is not open yet. */
  send(data: string | ArrayBuffer | ArrayBufferView): void;
  /** Closes the connection; mini programs allow the codes 1000 and 3000 to 4999. */
  close(code?: number, reason?: string): void;
}

export interface MiniProgramWebSocketClass {
  new (url: string, protocols?: string | string[]): MiniProgramWebSocket;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
}

/** Where the client listens for `online` and `offline`. */
export interface NetworkEvents {
  addEventListener(type: string, listener: (event: { type: string }) => void): void;
  removeEventListener(type: string, listener: (event: { type: string }) => void): void;
}

/** Options for `new Centrifuge(url, { ...miniProgram(wx), token })` in a mini program. */
export function miniProgram(
  platform: Platform,
  socketOptions?: SocketOptions,
): { websocket: MiniProgramWebSocketClass; networkEventTarget: any };

/** A WebSocket class on `connectSocket`. */
export function webSocketClass(
  platform: Platform,
  socketOptions?: SocketOptions,
): MiniProgramWebSocketClass;

/** Says `online` when the network is back or the mini program is shown again. */
export function networkEvents(platform: Platform): NetworkEvents;
