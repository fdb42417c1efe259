//! One warm QuickJS runtime with its script loaded: calls, jobs, promises.
//!
//! Nothing here survives a tripped limit: the owner drops the runtime and builds another.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Instant,
};

use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Exception, Function, IntoJs, Module, Object,
    Persistent, Promise, Runtime, Value,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
    object::Property,
    promise::PromiseState,
    qjs,
};
use uuid::Uuid;

use super::{
    Spec, fetch,
    globals::{self, Callbacks},
    heap::{Counted, Heap},
    host::Host,
    meter::Meter,
};
use crate::sandbox::{
    call::{Answer, CallId},
    protocol::Facts,
};

/// What native functions and the engine both hold.
pub(super) struct Shared {
    pub(super) host: Rc<dyn Host>,
    pub(super) meter: Meter,
    spec: Rc<Spec>,
    running: Cell<bool>,
    payload: RefCell<Option<Persistent<Value<'static>>>>,
    /// [`Facts`] as postcard bytes: kept for a script that asks, copied at next to no cost for
    /// all the others.
    facts: RefCell<Vec<u8>>,
    /// Rejected promises without a handler, by address, with their reasons.
    rejections: RefCell<HashMap<usize, Persistent<Value<'static>>>>,
}

impl Shared {
    pub(super) fn running(&self) -> bool {
        self.running.get()
    }

    pub(super) fn payload<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<Option<Value<'js>>> {
        let payload = if self.running() { self.payload.borrow().clone() } else { None };
        payload.map(|payload| payload.restore(ctx)).transpose()
    }

    /// The object of `sdk.events.context()`, fresh and frozen.
    pub(super) fn event_context<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<Value<'js>> {
        let facts = self.facts.borrow();
        let Ok(facts) = postcard::from_bytes::<Facts<'_>>(&facts) else {
            return Err(Exception::throw_internal(ctx, "the event's facts do not decode"));
        };
        let id = |bytes: [u8; 16]| Uuid::from_bytes(bytes).as_hyphenated().to_string();
        let owner = &self.spec.owner;
        let object = Object::new(ctx.clone())?;
        let uid = id(facts.uid);
        field(&object, "id", facts.id.unwrap_or(&uid))?;
        field(&object, "source", facts.source)?;
        field(&object, "type", facts.event_type)?;
        if let Some(subject) = facts.subject {
            field(&object, "subject", subject)?;
        }
        match facts.time {
            Some(time) => field(&object, "time", time)?,
            None => field(&object, "time", facts.accepted_at.to_string())?,
        }
        let extensions = ctx.json_parse(facts.extensions.unwrap_or("{}"))?;
        freeze(&extensions);
        field(&object, "extensions", extensions)?;
        field(&object, "attempt", facts.attempt)?;
        field(&object, "maxAttempts", facts.max_attempts)?;
        field(&object, "replayed", facts.replayed)?;
        field(&object, "hop", facts.hop)?;
        match facts.idempotency_key {
            Some(key) => field(&object, "idempotencyKey", key)?,
            None => field(&object, "idempotencyKey", format!("{uid}:{}", owner.subscription))?,
        }
        let subscription = Object::new(ctx.clone())?;
        field(&subscription, "id", owner.subscription.as_str())?;
        field(&subscription, "name", owner.subscription_name.as_str())?;
        freeze(&subscription);
        field(&object, "subscription", subscription)?;
        let script = Object::new(ctx.clone())?;
        field(&script, "id", owner.script.as_str())?;
        field(&script, "name", owner.script_name.as_str())?;
        field(&script, "version", owner.script_version)?;
        freeze(&script);
        field(&object, "script", script)?;
        field(&object, "runId", id(facts.run_id))?;
        freeze(&object);
        Ok(object.into_value())
    }
}

/// Defines a field; setting it would meet what a script has put on `Object.prototype`.
fn field<'js>(object: &Object<'js>, name: &str, value: impl IntoJs<'js>) -> rquickjs::Result<()> {
    object.prop(name, Property::from(value).enumerable())
}

fn freeze(value: &Value<'_>) {
    // SAFETY: a live value of this context; freezing a plain object runs no script code.
    unsafe { qjs::JS_FreezeObject(value.ctx().as_raw().as_ptr(), value.as_raw()) };
}

/// Longest payload text that is kept parsed between two runs.
const KEPT_PAYLOAD_BYTES: usize = 4 << 10;

/// A runtime with its script loaded.
pub(super) struct Warm {
    // Values before the context, the context before its runtime: fields drop in this order.
    handler: Persistent<Function<'static>>,
    callbacks: Callbacks,
    pub(super) shared: Rc<Shared>,
    pub(super) context: Context,
    heap: Rc<Heap>,
    heap_empty: usize,
}

/// A script imports the modules it came with and nothing else: neither its own name nor the parts of
/// the globals.
#[derive(Clone)]
struct Modules(Rc<Spec>);

impl Modules {
    fn refuse(ctx: &Ctx<'_>, name: &str) -> rquickjs::Error {
        let message = format!(
            "cannot import `{name}`: a script imports modules of this server, by names that are written out"
        );
        Exception::throw_type(ctx, &message)
    }
}

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        _base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        let found = self.0.modules.iter().find(|(specifier, ..)| specifier == name);
        found.map(|(_, file, _)| file.clone()).ok_or_else(|| Self::refuse(ctx, name))
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        let Some((_, file, code)) = self.0.modules.iter().find(|(_, file, _)| file == name) else {
            return Err(Self::refuse(ctx, name));
        };
        Module::declare(ctx.clone(), file.as_str(), code.as_str())
    }
}

/// What a thrown value says, before it becomes a run's error.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Thrown {
    pub(super) judgement: Judgement,
    pub(super) message: String,
    pub(super) stack: Option<String>,
    /// Milliseconds of an `sdk.RetryError`.
    pub(super) after_ms: Option<f64>,
}

/// The order is that of the constants at the end of `core.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Exception,
    Permanent,
    EmitRejected,
    StackOverflow,
}

impl Thrown {
    fn plain(message: impl Into<String>) -> Self {
        Self {
            judgement: Judgement::Exception,
            message: message.into(),
            stack: None,
            after_ms: None,
        }
    }

    /// The tripped limit says the rest.
    pub(super) fn stopped() -> Self {
        Self::plain("stopped")
    }
}

/// Why there is no runtime.
pub(super) enum Failure {
    /// The engine itself: out of the process's memory, most likely.
    Broken(String),
    /// The script does not load; or a limit tripped on the way, see [`Meter::trip`].
    Load { thrown: Thrown, meter_tripped: Option<super::meter::Trip> },
}

/// Where a run stands after all it could do at once.
pub(super) enum Standing {
    /// JSON text of the result, or what was thrown.
    Ended(Result<String, Thrown>),
    /// It waits for a timer or an answer.
    Waits(Persistent<Promise<'static>>),
}

/// What a waiting run goes on with.
pub(super) enum News {
    TimersDue,
    Answer(CallId, Answer),
    /// A recorded run that ran out of time here.
    OutOfTime,
}

impl Warm {
    /// Builds a runtime and loads the script in it, within the limits of one run.
    pub(super) fn build(
        spec: &Rc<Spec>,
        host: Rc<dyn Host>,
        thread_cpu: std::time::Duration,
    ) -> Result<Self, Failure> {
        let heap = Heap::new();
        let broken = |error: rquickjs::Error| Failure::Broken(error.to_string());
        let runtime = Runtime::new_with_alloc(Counted(heap.clone())).map_err(broken)?;
        runtime.set_loader(Modules(Rc::clone(spec)), Modules(Rc::clone(spec)));
        runtime.set_max_stack_size(spec.limits.stack_bytes);
        let context = Context::full(&runtime).map_err(broken)?;
        let shared = Rc::new(Shared {
            host,
            meter: Meter::new(heap.clone()),
            spec: spec.clone(),
            running: Cell::new(false),
            payload: RefCell::default(),
            facts: RefCell::default(),
            rejections: RefCell::default(),
        });
        let callbacks = context.with(|ctx| {
            globals::install(&ctx, &shared).catch(&ctx).map_err(|e| Failure::Broken(e.to_string()))
        })?;
        let heap_empty = heap.used();
        heap.limit_to(spec.limits.heap_bytes);
        let meter = shared.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || meter.meter.check())));
        let tracker = shared.clone();
        runtime.set_host_promise_rejection_tracker(Some(Box::new(
            move |ctx, promise, reason, handled| {
                // SAFETY: reads the address of a live object, for comparison only.
                let address = unsafe { qjs::JS_VALUE_GET_PTR(promise.as_raw()) } as usize;
                if handled {
                    tracker.rejections.borrow_mut().remove(&address);
                } else {
                    tracker.rejections.borrow_mut().insert(address, Persistent::save(&ctx, reason));
                }
            },
        )));

        let now = Instant::now();
        shared.meter.arm(spec.limits.cpu, now + spec.limits.wall);
        shared.meter.begin_slice(now, thread_cpu);
        shared.host.begin_load();
        let loaded = context.with(|ctx| load(&ctx, spec, &shared, &callbacks));
        shared.host.end_load();
        shared.rejections.borrow_mut().clear();
        let tripped = shared.meter.trip();
        match loaded {
            Ok(handler) if tripped.is_none() => {
                Ok(Self { handler, callbacks, shared, context, heap, heap_empty })
            }
            Ok(handler) => {
                drop(handler);
                Err(Failure::Load { thrown: Thrown::stopped(), meter_tripped: tripped })
            }
            Err(thrown) => Err(Failure::Load { thrown, meter_tripped: tripped }),
        }
    }

    /// Bytes of heap in use beyond those of an empty runtime.
    pub(super) fn heap_bytes(&self) -> u64 {
        self.heap.used().saturating_sub(self.heap_empty) as u64
    }

    /// Calls the handler and does all that can be done without waiting.
    pub(super) fn call(&self, data: &[u8], facts: &Facts<'_>) -> Standing {
        {
            let mut buffer = self.shared.facts.take();
            buffer.clear();
            // Facts are texts and numbers: they always encode.
            *self.shared.facts.borrow_mut() =
                postcard::to_extend(facts, buffer).unwrap_or_default();
        }
        self.shared.running.set(true);
        self.context.with(|ctx| {
            let called = self.enter(&ctx, data);
            self.settle(&ctx, called)
        })
    }

    fn enter<'js>(&self, ctx: &Ctx<'js>, data: &[u8]) -> rquickjs::Result<Value<'js>> {
        let payload = ctx.json_parse(data)?;
        *self.shared.payload.borrow_mut() = Some(Persistent::save(ctx, payload.clone()));
        let handler = self.handler.clone().restore(ctx)?;
        if self.shared.spec.takes_context {
            let context = self.shared.event_context(ctx)?;
            handler.call((payload, context))
        } else {
            handler.call((payload,))
        }
    }

    /// Hands over the news, and does all that can be done without waiting again.
    pub(super) fn resume(&self, promise: Persistent<Promise<'static>>, news: News) -> Standing {
        self.context.with(|ctx| {
            let told = match news {
                News::TimersDue | News::OutOfTime => self.fire_due(&ctx),
                News::Answer(call, answer) => self.tell(&ctx, call, answer),
            };
            let value = told.and_then(|()| promise.restore(&ctx)).map(Promise::into_value);
            self.settle(&ctx, value)
        })
    }

    fn fire_due(&self, ctx: &Ctx<'_>) -> rquickjs::Result<()> {
        let now = Instant::now();
        while let Some(timer) = self.shared.host.due(now) {
            self.callbacks.fire.clone().restore(ctx)?.call::<_, ()>((timer,))?;
            drain(ctx, &self.shared.meter);
            if self.shared.meter.check() {
                break;
            }
        }
        Ok(())
    }

    fn tell(&self, ctx: &Ctx<'_>, call: CallId, answer: Answer) -> rquickjs::Result<()> {
        let tell = self.callbacks.answer.clone().restore(ctx)?;
        match answer {
            Answer::Value(value) => tell.call((call.0, value)),
            Answer::Page(page) => {
                let items: Vec<_> =
                    page.items.into_iter().map(|(key, value)| vec![key, value]).collect();
                tell.call((call.0, items))
            }
            Answer::Fetched(response) => tell.call((call.0, fetch::answer(ctx, *response)?)),
            Answer::Refused(reason) => tell.call((call.0, (), reason)),
        }
    }

    /// Runs the jobs, then looks where the promise stands.
    fn settle<'js>(&self, ctx: &Ctx<'js>, called: rquickjs::Result<Value<'js>>) -> Standing {
        let ended = match called {
            Err(error) => Err(self.thrown(ctx, error)),
            Ok(value) => {
                drain(ctx, &self.shared.meter);
                match value.as_promise().map(|promise| (promise, promise.state())) {
                    None => self.result(ctx, value),
                    Some((_, PromiseState::Pending)) if self.shared.meter.trip().is_some() => {
                        Err(Thrown::stopped())
                    }
                    Some((promise, PromiseState::Pending)) => {
                        let host = &self.shared.host;
                        if host.next_due().is_some() || host.awaits_answer() {
                            return Standing::Waits(Persistent::save(ctx, promise.clone()));
                        }
                        Err(Thrown::plain(
                            "the handler's promise can never settle: nothing is left that could resolve it (no timer, no call to the host)",
                        ))
                    }
                    Some((promise, _)) => match promise.result::<Value>() {
                        Some(Ok(value)) => self.result(ctx, value),
                        Some(Err(error)) => Err(self.thrown(ctx, error)),
                        None => Err(Thrown::plain("the handler's promise has no result")),
                    },
                }
            }
        };
        Standing::Ended(ended)
    }

    /// The result as JSON text, unless a rejection was left unhandled.
    fn result<'js>(&self, ctx: &Ctx<'js>, value: Value<'js>) -> Result<String, Thrown> {
        let rejected = self.shared.rejections.borrow_mut().drain().next();
        if let Some((_, reason)) = rejected {
            let reason = reason.restore(ctx).unwrap_or_else(|_| Value::new_undefined(ctx.clone()));
            let thrown = self.judge(ctx, reason);
            return Err(Thrown {
                message: format!("unhandled rejection: {}", thrown.message),
                ..thrown
            });
        }
        let text = if value.is_undefined() || value.is_null() || self.shared.spec.is_plain {
            "null".to_owned()
        } else {
            match ctx.json_stringify(value).and_then(|text| text.map(globals::text).transpose()) {
                Ok(text) => text.unwrap_or_else(|| "null".to_owned()),
                Err(error) => {
                    let thrown = self.thrown(ctx, error);
                    return Err(Thrown {
                        message: format!("the result is no JSON: {}", thrown.message),
                        ..thrown
                    });
                }
            }
        };
        let limit = self.shared.spec.limits.result_bytes;
        if text.len() > limit {
            return Err(Thrown::plain(format!(
                "result of {} bytes: the limit is {limit}",
                text.len()
            )));
        }
        if let Err(fault) = crate::sandbox::border::check_json(&text) {
            return Err(Thrown::plain(format!("result: {fault}")));
        }
        Ok(text)
    }

    fn thrown<'js>(&self, ctx: &Ctx<'js>, error: rquickjs::Error) -> Thrown {
        thrown(ctx, error, &self.shared, &self.callbacks)
    }

    fn judge<'js>(&self, ctx: &Ctx<'js>, value: Value<'js>) -> Thrown {
        judge(ctx, value, &self.callbacks)
    }

    /// Nothing of a run is left but what the script keeps in its own globals — and a small payload,
    /// out of the script's reach, until the next one has been parsed: the engine then finds the
    /// names of its fields and its shape instead of building them anew, a third of a call's cost.
    pub(super) fn end_run(&self, payload_bytes: usize) {
        let shared = &self.shared;
        shared.running.set(false);
        let heap_bytes = self.heap.used().saturating_sub(self.heap_empty);
        if payload_bytes > KEPT_PAYLOAD_BYTES || heap_bytes > shared.spec.limits.heap_bytes / 4 {
            shared.payload.take();
        }
        if !shared.rejections.borrow().is_empty() {
            shared.rejections.borrow_mut().clear();
        }
    }

    /// Drops the callbacks of timers and questions that a run left open.
    pub(super) fn forget_work(&self) {
        self.context.with(|ctx| {
            if let Ok(forget) = self.callbacks.forget.clone().restore(&ctx) {
                // It touches nothing that a script can replace, so it cannot fail.
                let _ = forget.call::<_, ()>(()).catch(&ctx);
            }
        });
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        // The native functions hold `shared`, and the runtime holds them: values kept here would
        // keep the runtime's heap from being freed.
        self.shared.payload.take();
        self.shared.rejections.borrow_mut().clear();
    }
}

/// Loads the script's module; the handler is its default export.
fn load<'js>(
    ctx: &Ctx<'js>,
    spec: &Spec,
    shared: &Shared,
    callbacks: &Callbacks,
) -> Result<Persistent<Function<'static>>, Thrown> {
    let evaluate = || {
        let (module, promise) =
            Module::declare(ctx.clone(), spec.file.as_str(), spec.code.as_str())?.eval()?;
        drain(ctx, &shared.meter);
        if let Some(settled) = promise.result::<Value>() {
            settled?;
            return Ok(Some(module));
        }
        Ok(None)
    };
    let module = match evaluate() {
        Ok(Some(module)) => module,
        Ok(None) => {
            return Err(Thrown::plain(
                "the module never finishes loading: it waits for something that cannot come before the first event",
            ));
        }
        Err(error) => return Err(thrown(ctx, error, shared, callbacks)),
    };
    let handler: Value =
        module.get("default").map_err(|error| thrown(ctx, error, shared, callbacks))?;
    let found = handler.type_name();
    let handler = handler.into_function().ok_or_else(|| {
        Thrown::plain(format!("`export default` must be a function, found {found}"))
    })?;
    Ok(Persistent::save(ctx, handler))
}

/// Runs the pending jobs, with a look at the clock between any two.
fn drain(ctx: &Ctx<'_>, meter: &Meter) {
    while !meter.check() && ctx.execute_pending_job() {}
}

/// Reads the pending exception.
fn thrown<'js>(
    ctx: &Ctx<'js>,
    error: rquickjs::Error,
    shared: &Shared,
    callbacks: &Callbacks,
) -> Thrown {
    if !error.is_exception() {
        return Thrown::plain(error.to_string());
    }
    let value = ctx.catch();
    if shared.meter.trip().is_some() {
        shared.meter.grace();
    }
    judge(ctx, value, callbacks)
}

/// Asks the globals' JavaScript what a thrown value means. Runs script code (getters), so within
/// the limits like any other.
fn judge<'js>(ctx: &Ctx<'js>, value: Value<'js>, callbacks: &Callbacks) -> Thrown {
    let judged = callbacks
        .judge
        .clone()
        .restore(ctx)
        .and_then(|judge| judge.call::<_, rquickjs::Array>((value,)))
        .and_then(|fields| {
            let judgement = match fields.get::<u8>(0)? {
                1 => Judgement::Permanent,
                2 => Judgement::EmitRejected,
                3 => Judgement::StackOverflow,
                _ => Judgement::Exception,
            };
            Ok(Thrown {
                judgement,
                message: globals::text(fields.get(1)?)?,
                stack: fields.get::<Option<rquickjs::String>>(2)?.map(globals::text).transpose()?,
                after_ms: fields.get(3)?,
            })
        });
    judged.catch(ctx).unwrap_or_else(|error| match error {
        CaughtError::Error(error) => Thrown::plain(error.to_string()),
        _ => Thrown::plain("threw a value that cannot be shown"),
    })
}
