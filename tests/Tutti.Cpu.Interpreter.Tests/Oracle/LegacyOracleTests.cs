using Xunit.Abstractions;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>
/// Every form of an instruction does in 32-bit code of the interpreter what it does in 32-bit code on the host's own processor:
/// both in compatibility mode, which a 64-bit process of Linux can enter by a far jump.
/// </summary>
[Trait("Category", "Oracle")]
[Collection(nameof(HostProcessorTests))]
public class LegacyOracleTests(ProcessorOracle oracle, ITestOutputHelper output) : IClassFixture<ProcessorOracle>
{
    public static TheoryData<string, string> Shards
    {
        get
        {
            TheoryData<string, string> shards = [];
            foreach (string group in FormTable.All(32).Select(form => form.Group).OfType<string>().Distinct())
            {
                foreach (string mnemonic in FormTable.Mnemonics(group, 32))
                {
                    shards.Add(group, mnemonic);
                }
            }

            return shards;
        }
    }

    [LegacyTheory]
    [MemberData(nameof(Shards))]
    public void Instructions_of_32_bit_code_match_the_processor(string group, string mnemonic) => oracle.Check(group, mnemonic, 32, output);
}
