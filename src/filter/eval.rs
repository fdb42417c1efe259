//! Whether a filter holds for an event: comparisons as in RFC 9535, section 2.3.5.2.2.

use std::{borrow::Cow, cmp::Ordering};

use super::{
    ast::{Comparison, Expr, Literal, Operand, Operator, Path, Singular, TextTest},
    json::{Kind, Node},
    number::Decimal,
    outer::{self, Outer},
    select,
    view::View,
};

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'v, 'e> {
    pub(crate) view: &'v View<'e>,
    /// What `@` stands for; `None` outside of `[?…]`.
    pub(crate) current: Option<Node<'v>>,
    /// Within `[?…]`, what it asks for from outside.
    pub(crate) outer: &'v [Outer<'v>],
}

impl<'v, 'e> Scope<'v, 'e> {
    /// The whole event, outside of any `[?…]`.
    pub(crate) fn of(view: &'v View<'e>) -> Self {
        Self { view, current: None, outer: &[] }
    }

    /// The value that a path selects.
    pub(crate) fn value(self, path: &Singular) -> Option<Value<'v>> {
        match outer::known(path, self.outer) {
            Some(value) => value,
            None => self.view.value(path, self.current),
        }
    }
}

/// A value in a comparison. What is absent is `None` in an `Option` of it.
#[derive(Clone, Debug)]
pub(crate) enum Value<'v> {
    Null,
    Bool(bool),
    Number(Cow<'v, Decimal>),
    String(Cow<'v, str>),
    /// An array or an object.
    Container(Node<'v>),
}

impl<'v> Value<'v> {
    pub(crate) fn of(node: Node<'v>) -> Self {
        match node.kind() {
            Kind::Null => Self::Null,
            Kind::False => Self::Bool(false),
            Kind::True => Self::Bool(true),
            Kind::Number => Self::Number(Cow::Owned(node.number())),
            Kind::String => Self::String(node.string()),
            Kind::Array | Kind::Object => Self::Container(node),
        }
    }

    pub(crate) fn of_literal(literal: &'v Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(value) => Self::Bool(*value),
            Literal::Number(number) => Self::Number(Cow::Borrowed(number)),
            Literal::String(text) => Self::String(Cow::Borrowed(text)),
        }
    }

    /// The same value without a copy of its text.
    pub(crate) fn borrowed(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(Cow::Borrowed(number)),
            Self::String(text) => Value::String(Cow::Borrowed(text)),
            Self::Container(node) => Value::Container(*node),
        }
    }

    pub(crate) fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Number(a), Value::Number(b)) => a == b,
            (Self::String(a), Value::String(b)) => a == b,
            (Self::Container(a), Value::Container(b)) => a.equals(*b),
            _ => false,
        }
    }

    /// `None` for values that have no order: of different types, or neither number nor string.
    fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(a), Value::Number(b)) => Some(a.as_ref().cmp(b.as_ref())),
            (Self::String(a), Value::String(b)) => Some(a.as_ref().cmp(b.as_ref())),
            _ => None,
        }
    }
}

/// True if the expression holds.
pub(crate) fn holds(expr: &Expr, scope: Scope<'_, '_>) -> bool {
    match expr {
        Expr::Or(parts) => parts.iter().any(|part| holds(part, scope)),
        Expr::And(parts) => parts.iter().all(|part| holds(part, scope)),
        Expr::Not(inner) => !holds(inner, scope),
        Expr::Compare(comparison) => {
            let Comparison { left, operator, right } = comparison;
            compare(value(left, scope).as_ref(), *operator, value(right, scope).as_ref())
        }
        Expr::In(left, list) => value(left, scope)
            .is_some_and(|left| list.iter().any(|item| left.equals(&Value::of_literal(item)))),
        Expr::Exists(path) => select::exists(path, scope),
        Expr::Text(test, operands) => {
            match (value(&operands.0, scope), value(&operands.1, scope)) {
                (Some(whole), Some(part)) => tests(*test, &whole, &part),
                _ => false,
            }
        }
        Expr::Matches(subject, pattern) => match value(subject, scope) {
            Some(Value::String(text)) => pattern.regex.is_match(&text),
            _ => false,
        },
    }
}

fn compare(left: Option<&Value<'_>>, operator: Operator, right: Option<&Value<'_>>) -> bool {
    let equal = || match (left, right) {
        (Some(left), Some(right)) => left.equals(right),
        (None, None) => true,
        _ => false,
    };
    let order = || left?.order(right?);
    match operator {
        Operator::Equal => equal(),
        Operator::NotEqual => !equal(),
        Operator::Less => order() == Some(Ordering::Less),
        Operator::Greater => order() == Some(Ordering::Greater),
        Operator::LessOrEqual => order() == Some(Ordering::Less) || equal(),
        Operator::GreaterOrEqual => order() == Some(Ordering::Greater) || equal(),
    }
}

fn tests(test: TextTest, whole: &Value<'_>, part: &Value<'_>) -> bool {
    match (test, whole, part) {
        (TextTest::StartsWith, Value::String(whole), Value::String(part)) => {
            whole.starts_with(part.as_ref())
        }
        (TextTest::EndsWith, Value::String(whole), Value::String(part)) => {
            whole.ends_with(part.as_ref())
        }
        (TextTest::Contains, Value::String(whole), Value::String(part)) => {
            whole.contains(part.as_ref())
        }
        (TextTest::Contains, Value::Container(array), part) => {
            array.elements().any(|element| Value::of(element).equals(part))
        }
        _ => false,
    }
}

pub(crate) fn value<'v>(operand: &'v Operand, scope: Scope<'v, '_>) -> Option<Value<'v>> {
    match operand {
        Operand::Literal(literal) => Some(Value::of_literal(literal)),
        Operand::Path(path) => scope.value(path),
        Operand::Length(inner) => length(&value(inner, scope)?).map(number),
        Operand::Count(path) => Some(number(select::count(path, scope))),
        Operand::Value(path) => match &**path {
            Path::One(path) => scope.value(path),
            Path::Many(query) => select::only(query, scope).map(Value::of),
        },
    }
}

fn number<'v>(count: usize) -> Value<'v> {
    Value::Number(Cow::Owned(Decimal::from(count)))
}

/// Characters of a string, elements of an array, members of an object.
fn length(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.chars().count()),
        Value::Container(node) => Some(node.count()),
        _ => None,
    }
}
