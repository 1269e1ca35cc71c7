//! The likeliest mistakes, each with the compiler's message, which says what is missing and names no type
//! that users do not know.

/// The messages are those of the compiler that CI uses. With `TRYBUILD=overwrite` they are written anew.
#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
