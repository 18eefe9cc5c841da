using Iced.Intel;
using Xunit.Abstractions;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>Tests that take over the process's fault signals take turns with all others.</summary>
[CollectionDefinition(nameof(HostProcessorTests), DisableParallelization = true)]
public static class HostProcessorTests
{
}

/// <summary>Every form of an instruction does in the interpreter what it does on the host's own processor.</summary>
[Trait("Category", "Oracle")]
[Collection(nameof(HostProcessorTests))]
public class OracleTests(ProcessorOracle oracle, ITestOutputHelper output) : IClassFixture<ProcessorOracle>
{
    public static TheoryData<string> Alu => Names("Alu");

    public static TheoryData<string> Shift => Names("Shift");

    public static TheoryData<string> MulDiv => Names("MulDiv");

    public static TheoryData<string> Move => Names("Move");

    public static TheoryData<string> Condition => Names("Condition");

    public static TheoryData<string> Bit => Names("Bit");

    public static TheoryData<string> Bmi => Names("Bmi");

    public static TheoryData<string> String => Names("String");

    public static TheoryData<string> Branch => Names("Branch");

    public static TheoryData<string> Stack => Names("Stack");

    public static TheoryData<string> Undefined => Names("Undefined");

    public static TheoryData<string> Privileged => Names("Privileged");

    public static TheoryData<string> Vector => Names(FormTable.Vector);

    [Theory]
    [MemberData(nameof(Alu))]
    public void Arithmetic_and_logic_match_the_processor(string mnemonic) => Compare("Alu", mnemonic);

    [Theory]
    [MemberData(nameof(Shift))]
    public void Shifts_and_rotates_match_the_processor(string mnemonic) => Compare("Shift", mnemonic);

    [Theory]
    [MemberData(nameof(MulDiv))]
    public void Multiplication_and_division_match_the_processor(string mnemonic) => Compare("MulDiv", mnemonic);

    [Theory]
    [MemberData(nameof(Move))]
    public void Moves_and_exchanges_match_the_processor(string mnemonic) => Compare("Move", mnemonic);

    [Theory]
    [MemberData(nameof(Condition))]
    public void Conditional_moves_and_sets_match_the_processor(string mnemonic) => Compare("Condition", mnemonic);

    [Theory]
    [MemberData(nameof(Bit))]
    public void Bit_instructions_match_the_processor(string mnemonic) => Compare("Bit", mnemonic);

    [Theory]
    [MemberData(nameof(Bmi))]
    public void Bit_manipulation_extensions_match_the_processor(string mnemonic) => Compare("Bmi", mnemonic);

    [Theory]
    [MemberData(nameof(String))]
    public void String_instructions_match_the_processor(string mnemonic) => Compare("String", mnemonic);

    [Theory]
    [MemberData(nameof(Branch))]
    public void Near_branches_match_the_processor(string mnemonic) => Compare("Branch", mnemonic);

    [Theory]
    [MemberData(nameof(Stack))]
    public void Stack_instructions_match_the_processor(string mnemonic) => Compare("Stack", mnemonic);

    [Theory]
    [MemberData(nameof(Undefined))]
    public void Undefined_instructions_match_the_processor(string mnemonic) => Compare("Undefined", mnemonic);

    [Theory]
    [MemberData(nameof(Privileged))]
    public void Privileged_instructions_fault_in_user_mode_as_on_the_processor(string mnemonic) => Compare("Privileged", mnemonic);

    [Theory]
    [MemberData(nameof(Vector))]
    public void Vector_instructions_match_the_processor(string mnemonic) => Compare(FormTable.Vector, mnemonic);

    [Theory]
    [InlineData(64, 900)]
    [InlineData(32, 800)]
    public void Every_form_of_a_mode_is_compared_or_has_a_reason(int bits, int atLeast)
    {
        IReadOnlyList<Form> forms = FormTable.All(bits);
        Assert.All(forms, form => Assert.True((form.Group == null) != (form.Reason == null), form.Code.ToString()));
        int compared = forms.Count(form => form.Group != null);
        output.WriteLine($"compared: {compared} of {forms.Count} forms of {bits}-bit mode");
        Assert.True(compared > atLeast);
        foreach (IGrouping<string?, Form> reason in forms.Where(form => form.Group == null).GroupBy(form => form.Reason))
        {
            output.WriteLine($"not compared, {reason.Count()} forms: {reason.Key}: {string.Join(' ', reason.Select(form => form.Code))}");
        }
    }

    private static TheoryData<string> Names(string group) => [.. FormTable.Mnemonics(group, 64)];

    private void Compare(string group, string mnemonic) => oracle.Check(group, mnemonic, 64, output);
}
