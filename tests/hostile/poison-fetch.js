// expect: exception
Array.prototype.map = Array.prototype.filter = String.prototype.toUpperCase = () => { throw new Error('poison'); };
export default async () => { await fetch('https://example.com/', { headers: { a: 'b' } }); };
