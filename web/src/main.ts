import '@fontsource-variable/geist/wght.css';
import '@fontsource-variable/geist-mono/wght.css';
import './styles/tokens.css';
import './styles/base.css';

import { mount } from 'svelte';

import App from './App.svelte';
import { base } from './router/base';
import { place } from './router/router.svelte';
import { preferences } from './ui/preferences.svelte';

// A relative address would be looked up anew below each path that is navigated to.
document.querySelector<HTMLLinkElement>('link[rel=icon]')?.setAttribute('href', new URL('icon.svg', base).href);

preferences.apply();
place.start();

const target = document.getElementById('app');
if (!target) throw new Error('the page has no #app');
mount(App, { target });
