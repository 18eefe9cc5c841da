using Iced.Intel;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>
/// The return ring: the only code that moves the host's RSP. A call of the block's own code takes the address away again that it has pushed, before
/// anything else, and a RET goes where the PUSH right before it has read from the ring.
/// </summary>
internal sealed class ReturnRules(EmittedBlock block, Violation report)
{
    private readonly Dictionary<ulong, Instruction> _calls = [];

    /// <summary>Where code goes on behind such a call.</summary>
    public HashSet<ulong> Landings { get; } = [];

    /// <summary>POP to, or PUSH from, [RSP+index*8+offset]; RET; LEA RSP, [RSP+8].</summary>
    public static bool IsOne(in Instruction instruction) => IsPop(instruction) || IsPush(instruction) || IsTakenBack(instruction) || instruction.Code == Code.Retnq;

    public static bool IsPop(in Instruction instruction) => instruction.Code == Code.Pop_rm64 && IsEntry(instruction);

    public static bool IsPush(in Instruction instruction) => instruction.Code == Code.Push_rm64 && IsEntry(instruction);

    private static bool IsTakenBack(in Instruction instruction) => instruction.Code == Code.Lea_r64_m && instruction.Op0Register == Register.RSP
        && instruction.MemoryBase == Register.RSP && instruction.MemoryIndex == Register.None && (int)instruction.MemoryDisplacement64 == 8 + StateLayout.Bias;

    private static bool IsEntry(in Instruction instruction) =>
        instruction.Op0Kind == OpKind.Memory && instruction.MemoryBase == Register.RSP && instruction.MemoryIndex != Register.None;

    /// <summary>Takes note of a call; false when it leads out of the block, and is for <see cref="CallRules"/>.</summary>
    public bool TryAdd(in Instruction call)
    {
        if (call.NearBranch64 < block.Start || call.NearBranch64 >= block.Start + (ulong)block.Bytes.Length)
        {
            return false;
        }

        if (!_calls.TryAdd(call.NearBranch64, call))
        {
            report("calls what another call does", call);
        }

        Landings.Add(call.NextIP);
        return true;
    }

    /// <summary>Holds all code of the block, by address, to the order in which RSP comes back to the state.</summary>
    /// <param name="labels">Where jumps, and other blocks, lead.</param>
    public void Check(IReadOnlyDictionary<ulong, Instruction> code, IReadOnlySet<ulong> labels)
    {
        Dictionary<ulong, Instruction> before = [];
        foreach (Instruction instruction in code.Values)
        {
            // The jump in a NOP ends where that does: the NOP goes on there.
            if (instruction.FlowControl != FlowControl.UnconditionalBranch || !before.ContainsKey(instruction.NextIP))
            {
                before[instruction.NextIP] = instruction;
            }
        }

        foreach ((ulong target, Instruction call) in _calls)
        {
            bool takesBack = code.TryGetValue(target, out Instruction first) && (IsPop(first) || IsTakenBack(first));
            if (!takesBack || labels.Contains(target) || before[target].FlowControl != FlowControl.UnconditionalBranch)
            {
                report("leaves an address on the host's stack, or none", call);
            }
        }

        foreach (Instruction instruction in code.Values)
        {
            bool isPaired = instruction switch
            {
                _ when IsPop(instruction) || IsTakenBack(instruction) => _calls.ContainsKey(instruction.IP),
                _ when IsPush(instruction) => code.TryGetValue(instruction.NextIP, out Instruction next) && next.Code == Code.Retnq,
                { Code: Code.Retnq } => !labels.Contains(instruction.IP) && before.TryGetValue(instruction.IP, out Instruction push) && IsPush(push),
                _ => true,
            };
            if (!isPaired)
            {
                report("uses the host's stack", instruction);
            }
        }
    }
}
