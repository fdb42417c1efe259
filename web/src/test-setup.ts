import '@testing-library/jest-dom/vitest';

import { vi } from 'vitest';

// In a browser this follows from where the script was loaded; here there is no such place.
vi.mock('./router/base', () => ({ base: new URL('http://localhost:3000/') }));
