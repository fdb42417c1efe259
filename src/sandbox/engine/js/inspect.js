// How `console` and error messages show a value: one line where it fits, cut where it is deep,
// wide or long. Getters are not called.
(() => {
  'use strict';
  const { getOwnPropertyDescriptor, getPrototypeOf } = Object;
  const { ownKeys } = Reflect;
  const { stringify } = JSON;
  const DEPTH_MAX = 4;
  const ITEMS_MAX = 100;
  const TEXT_MAX = 10_000;

  const name = (key) => (typeof key === 'symbol' ? `[${String(key)}]`
    : /^[A-Za-z_$][\w$]*$/.test(key) ? key : stringify(key));

  const primitive = (value) => {
    switch (typeof value) {
      case 'string': return value.length > TEXT_MAX ? `${stringify(value.slice(0, TEXT_MAX))}…` : stringify(value);
      case 'bigint': return `${value}n`;
      case 'number': return Object.is(value, -0) ? '-0' : String(value);
      default: return String(value);
    }
  };

  const className = (value) => {
    try {
      const proto = getPrototypeOf(value);
      if (proto === null) return '[null prototype]';
      const type = getOwnPropertyDescriptor(proto, 'constructor')?.value?.name;
      return typeof type === 'string' ? type : '';
    } catch {
      return '';
    }
  };

  const wrap = (open, items, close, more) => {
    if (more > 0) items.push(`… ${more} more`);
    if (items.length === 0) return open + close;
    const flat = items.join(', ');
    if (flat.length <= 100 && !flat.includes('\n')) return `${open} ${flat} ${close}`;
    return `${open}\n${items.map((item) => `  ${item.replaceAll('\n', '\n  ')}`).join(',\n')}\n${close}`;
  };

  const inspect = (value, depth, seen) => {
    if (typeof value === 'function') return `[${/^class\b/.test(Function.prototype.toString.call(value)) ? 'class' : 'function'} ${value.name || '(anonymous)'}]`;
    if (typeof value !== 'object' || value === null) return primitive(value);
    if (seen.includes(value)) return '[circular]';
    if (value instanceof Error) {
      const head = `${value.name}: ${value.message}`;
      const stack = String(value.stack ?? '').trimEnd();
      return stack === '' ? head : stack.startsWith(head) ? stack : `${head}\n${stack}`;
    }
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
    if (value instanceof RegExp) return String(value);
    const type = className(value);
    if (value instanceof Promise) return 'Promise {}';
    if (depth >= DEPTH_MAX) return Array.isArray(value) ? '[Array]' : `[${type || 'Object'}]`;
    const inner = [...seen, value];
    const deeper = (item) => inspect(item, depth + 1, inner);
    if (Array.isArray(value) || ArrayBuffer.isView(value)) {
      const items = [];
      for (let i = 0; i < value.length && i < ITEMS_MAX; i++) items.push(i in value ? deeper(value[i]) : '<empty>');
      return wrap(type === 'Array' ? '[' : `${type}(${value.length}) [`, items, ']', value.length - items.length);
    }
    if (value instanceof Map || value instanceof Set) {
      const items = [];
      for (const item of value) {
        if (items.length === ITEMS_MAX) break;
        items.push(value instanceof Map ? `${deeper(item[0])} => ${deeper(item[1])}` : deeper(item));
      }
      return wrap(`${type}(${value.size}) {`, items, '}', value.size - items.length);
    }
    if (value instanceof ArrayBuffer) return `ArrayBuffer { byteLength: ${value.byteLength} }`;
    const keys = ownKeys(value).filter((key) => getOwnPropertyDescriptor(value, key)?.enumerable);
    const items = keys.slice(0, ITEMS_MAX).map((key) => {
      const field = getOwnPropertyDescriptor(value, key);
      if (field === undefined) return `${name(key)}: undefined`;
      return `${name(key)}: ${'value' in field ? deeper(field.value) : field.get ? '[getter]' : '[setter]'}`;
    });
    return wrap(type === 'Object' || type === '' ? '{' : `${type} {`, items, '}', keys.length - items.length);
  };

  return (value) => inspect(value, 0, []);
})()
