//! What must not compile: each program in `tests/misuse`, and what the compiler says of it.

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/misuse/*.rs");
}
