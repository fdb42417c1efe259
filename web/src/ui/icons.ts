/** The icons in use, by what they mean here. Lucide, one module each, so that only these are shipped. */
import Activity from '@lucide/svelte/icons/activity';
import ArrowLeft from '@lucide/svelte/icons/arrow-left';
import ArrowRight from '@lucide/svelte/icons/arrow-right';
import Check from '@lucide/svelte/icons/check';
import ChevronDown from '@lucide/svelte/icons/chevron-down';
import ChevronRight from '@lucide/svelte/icons/chevron-right';
import CircleAlert from '@lucide/svelte/icons/circle-alert';
import CircleCheck from '@lucide/svelte/icons/circle-check';
import CircleHelp from '@lucide/svelte/icons/circle-question-mark';
import Clock from '@lucide/svelte/icons/clock';
import Command from '@lucide/svelte/icons/command';
import Copy from '@lucide/svelte/icons/copy';
import Database from '@lucide/svelte/icons/database';
import Ellipsis from '@lucide/svelte/icons/ellipsis';
import ExternalLink from '@lucide/svelte/icons/external-link';
import FileCode from '@lucide/svelte/icons/file-code';
import Gauge from '@lucide/svelte/icons/gauge';
import House from '@lucide/svelte/icons/house';
import Inbox from '@lucide/svelte/icons/inbox';
import Info from '@lucide/svelte/icons/info';
import Key from '@lucide/svelte/icons/key-round';
import Keyboard from '@lucide/svelte/icons/keyboard';
import ListFilter from '@lucide/svelte/icons/list-filter';
import LogOut from '@lucide/svelte/icons/log-out';
import MailX from '@lucide/svelte/icons/mail-x';
import Menu from '@lucide/svelte/icons/menu';
import Monitor from '@lucide/svelte/icons/monitor';
import Moon from '@lucide/svelte/icons/moon';
import Network from '@lucide/svelte/icons/network';
import Pause from '@lucide/svelte/icons/pause';
import Pencil from '@lucide/svelte/icons/pencil';
import Play from '@lucide/svelte/icons/play';
import Plus from '@lucide/svelte/icons/plus';
import Radio from '@lucide/svelte/icons/radio';
import Refresh from '@lucide/svelte/icons/refresh-cw';
import Rotate from '@lucide/svelte/icons/rotate-ccw';
import Save from '@lucide/svelte/icons/save';
import Search from '@lucide/svelte/icons/search';
import Settings from '@lucide/svelte/icons/settings';
import Shield from '@lucide/svelte/icons/shield';
import Snowflake from '@lucide/svelte/icons/snowflake';
import Square from '@lucide/svelte/icons/square';
import Sun from '@lucide/svelte/icons/sun';
import Terminal from '@lucide/svelte/icons/terminal';
import Trash from '@lucide/svelte/icons/trash-2';
import TriangleAlert from '@lucide/svelte/icons/triangle-alert';
import Undo from '@lucide/svelte/icons/undo-2';
import Workflow from '@lucide/svelte/icons/workflow';
import X from '@lucide/svelte/icons/x';
import Zap from '@lucide/svelte/icons/zap';

export const icons = {
  alert: CircleAlert,
  back: ArrowLeft,
  check: Check,
  clock: Clock,
  close: X,
  collapse: ChevronDown,
  command: Command,
  copy: Copy,
  'dead-letters': MailX,
  edit: Pencil,
  events: Radio,
  expand: ChevronRight,
  external: ExternalLink,
  filter: ListFilter,
  forward: ArrowRight,
  freeze: Snowflake,
  gauge: Gauge,
  good: CircleCheck,
  health: Activity,
  help: CircleHelp,
  empty: Inbox,
  info: Info,
  key: Key,
  keyboard: Keyboard,
  leave: LogOut,
  menu: Menu,
  more: Ellipsis,
  overview: House,
  pause: Pause,
  play: Play,
  plus: Plus,
  refresh: Refresh,
  restart: Rotate,
  runs: Terminal,
  save: Save,
  scripts: FileCode,
  search: Search,
  settings: Settings,
  shield: Shield,
  stop: Square,
  storage: Database,
  subscriptions: Workflow,
  supervision: Network,
  'theme-dark': Moon,
  'theme-light': Sun,
  'theme-system': Monitor,
  trash: Trash,
  undo: Undo,
  warn: TriangleAlert,
  zap: Zap,
} as const;

export type IconName = keyof typeof icons;
