using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.System;

/// <summary>
/// Every paging mode × rights and reserved bits at each level × who accesses how × CR0.WP, SMEP, SMAP, AC and EFER.NXE: whether
/// it faults, the error code, CR2, and what the walk leaves in the tables, against the manual's rules written down anew here.
/// </summary>
public sealed class PagingMatrixTests
{
    private const ulong Marks = PageTableEntry.Accessed | PageTableEntry.Dirty;
    private const ulong CodeStep = 0x10;

    private enum Kind
    {
        Read,
        Write,
        Fetch,
    }

    /// <summary>Who accesses how, and under which control bits.</summary>
    private readonly record struct Situation(bool User, Kind Kind, bool WriteProtect, bool Smep, bool Smap, bool Alignment, bool NoExecuteEnable)
    {
        public static readonly Situation[] All =
            [.. from user in (bool[])[false, true]
                from kind in Enum.GetValues<Kind>()
                from bits in Enumerable.Range(0, 32)
                select new Situation(user, kind, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0)];
    }

    /// <summary>What is to come out: the level whose entry ends the walk, or the number of levels when all were used.</summary>
    private readonly record struct Expectation(bool Faults, ulong Error, int Stop);

    public static TheoryData<int> Formats() => [.. Enumerable.Range(0, PagingFormat.All.Length)];

    [Theory]
    [MemberData(nameof(Formats))]
    public void RightsOfAllLevelsTogetherDecide(int index)
    {
        PagingFormat format = PagingFormat.All[index];
        using TestMachine machine = CreateMachine(format);
        foreach (ulong[] entries in RightsOf(format))
        {
            foreach (Situation situation in Situation.All)
            {
                Check(machine, format, entries, situation);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void EachReservedBitOfEachLevelFaultsOnlyInAPresentEntry(int index)
    {
        PagingFormat format = PagingFormat.All[index];
        using TestMachine machine = CreateMachine(format);
        for (int level = 0; level < format.Levels.Length; level++)
        {
            ulong reserved = format.Levels[level].Reserved;
            for (ulong rest = reserved; rest != 0; rest &= rest - 1)
            {
                foreach (ulong rights in (ulong[])[0, 1, 7])
                {
                    ulong[] entries = Entries(format, (_, _) => 7);
                    entries[level] = format.Target(level) | rights | (rest & (~rest + 1));
                    foreach (Situation situation in Situation.All.Where(s => s.WriteProtect == s.Smep && s.Smap == s.Alignment))
                    {
                        Check(machine, format, entries, situation);
                    }
                }
            }
        }
    }

    private static TestMachine CreateMachine(PagingFormat format)
    {
        TestMachine machine = format.CreateMachine();
        foreach (ulong code in (ulong[])[TestMachine.Code, TestMachine.UserCode])
        {
            machine.Memory.TryWrite(code + ((ulong)Kind.Read * CodeStep), [0x8A, 0x03, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
            machine.Memory.TryWrite(code + ((ulong)Kind.Write * CodeStep), [0x88, 0x03, 0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
            machine.Memory.TryWrite(code + ((ulong)Kind.Fetch * CodeStep), [0xFF, 0xE3]);
        }

        machine.Memory.TryWrite(TestMachine.Data, [0xE6, TestMachine.ExitPort, 0xEB, 0xFE]);
        return machine;
    }

    private static ulong[] Entries(PagingFormat format, Func<int, PagingLevel, ulong> rights) =>
        [.. format.Levels.Select((level, i) => format.Target(i) | (level.HasRights ? rights(i, level) : rights(i, level) & 1))];

    /// <summary>Each right taken away at no level, at each one, and at all of them; each entry not present.</summary>
    private static IEnumerable<ulong[]> RightsOf(PagingFormat format)
    {
        int count = format.Levels.Length;
        int[] choices = [.. new[] { 0, (1 << count) - 1 }.Concat(Enumerable.Range(0, count).Select(i => 1 << i)).Distinct()];
        return from absent in Enumerable.Range(-1, count + 1)
               from readOnly in choices
               from supervisor in choices
               from noExecute in format.IsPae ? choices : [0]
               select Entries(format, (i, _) =>
                   (i == absent ? 0 : PageTableEntry.Present)
                   | ((readOnly >> i & 1) != 0 ? 0 : PageTableEntry.Writable)
                   | ((supervisor >> i & 1) != 0 ? 0 : PageTableEntry.User)
                   | ((noExecute >> i & 1) != 0 ? PageTableEntry.NoExecute : 0));
    }

    private static Expectation Expect(PagingFormat format, ulong[] entries, Situation s)
    {
        bool showsFetch = s.Smep || (format.IsPae && s.NoExecuteEnable);
        ulong error = (s.Kind == Kind.Write ? 2u : 0) + (s.User ? 4u : 0) + (s.Kind == Kind.Fetch && showsFetch ? 16u : 0);
        for (int i = 0; i < entries.Length; i++)
        {
            if ((entries[i] & 1) == 0)
            {
                return new Expectation(true, error, i);
            }

            ulong reserved = format.Levels[i].Reserved | (s.NoExecuteEnable || !format.Levels[i].HasRights ? 0 : 1UL << 63);
            if ((entries[i] & reserved) != 0)
            {
                return new Expectation(true, error + 9, i);
            }
        }

        bool All(ulong bit) => entries.Where((_, i) => format.Levels[i].HasRights).All(e => (e & bit) != 0);
        bool userPage = All(4);
        bool writable = All(2);
        bool executable = entries.All(e => e >> 63 == 0);
        bool allowed = (s.User, s.Kind) switch
        {
            (true, Kind.Read) => userPage,
            (true, Kind.Write) => userPage && writable,
            (true, _) => userPage && executable,
            (false, Kind.Fetch) => executable && !(userPage && s.Smep),
            (false, Kind.Read) => !userPage || !s.Smap || s.Alignment,
            (false, _) => (!userPage || !s.Smap || s.Alignment) && (writable || !s.WriteProtect),
        };
        return allowed ? new Expectation(false, 0, entries.Length) : new Expectation(true, error + 1, entries.Length - 1);
    }

    private static void Check(TestMachine machine, PagingFormat format, ulong[] entries, Situation s)
    {
        for (int i = 0; i < entries.Length; i++)
        {
            format.WriteEntry(machine, format.Slot(i), entries[i]);
        }

        ulong linear = format.Linear + (s.Kind == Kind.Fetch ? 0 : 0x800UL);
        ulong code = (s.User ? TestMachine.UserCode : TestMachine.Code) + ((ulong)s.Kind * CodeStep);
        SetRegisters(machine, format, s, linear, code);
        int stub = machine.RunToStub();
        Expectation expected = Expect(format, entries, s);
        ulong[] after = [.. entries.Select((_, i) => format.ReadEntry(machine, i))];
        string? wrong = null;
        if (stub != (expected.Faults ? ExceptionVector.PageFault : -1))
        {
            wrong = $"ended at vector {stub}";
        }
        else if (expected.Faults)
        {
            int size = format.IsLong ? 8 : 4;
            ulong rip = s.Kind == Kind.Fetch ? linear : code;
            wrong = machine.Frame(0, size) != expected.Error ? $"error code {machine.Frame(0, size):X} for {expected.Error:X}"
                : machine.Registers.Cr2 != linear ? $"CR2 {machine.Registers.Cr2:X}"
                : machine.Frame(1, size) != rip ? $"saved RIP {machine.Frame(1, size):X}"
                : null;
        }

        wrong ??= FindWrongMark(format, entries, after, s, expected);
        if (wrong != null)
        {
            Assert.Fail($"{format}, {s}, entries {string.Join(' ', entries.Select(e => $"{e:X}"))}: {wrong}");
        }
    }

    /// <summary>
    /// A walk that succeeds marks every entry accessed, and the leaf dirty for a write. One that faults leaves the entry it
    /// stopped at, and those below, as they were; those above it may be marked accessed or not.
    /// </summary>
    private static string? FindWrongMark(PagingFormat format, ulong[] before, ulong[] after, Situation s, Expectation expected)
    {
        for (int i = 0; i < before.Length; i++)
        {
            bool leaf = i == before.Length - 1;
            ulong marks = !format.Levels[i].HasRights || expected.Faults ? 0
                : PageTableEntry.Accessed | (leaf && s.Kind == Kind.Write ? PageTableEntry.Dirty : 0);
            ulong free = expected.Faults && i < expected.Stop && format.Levels[i].HasRights ? PageTableEntry.Accessed : 0;
            if (((after[i] ^ (before[i] | marks)) & ~free) != 0)
            {
                return $"level {i} became {after[i]:X}, marks {marks & Marks:X}";
            }
        }

        return null;
    }

    private static void SetRegisters(TestMachine machine, PagingFormat format, Situation s, ulong linear, ulong code)
    {
        ProcessorRegisters r = machine.Registers;
        r.Cr0 = (r.Cr0 & ~Cr0.WriteProtect) | (s.WriteProtect ? Cr0.WriteProtect : 0);
        r.Cr2 = 0;
        const ulong Prevention = Cr4.SupervisorModeExecutionPrevention | Cr4.SupervisorModeAccessPrevention;
        r.Cr4 = (r.Cr4 & ~Prevention) | (s.Smep ? Cr4.SupervisorModeExecutionPrevention : 0) | (s.Smap ? Cr4.SupervisorModeAccessPrevention : 0);
        r.Efer = (r.Efer & ~Efer.NoExecuteEnable) | (s.NoExecuteEnable ? Efer.NoExecuteEnable : 0);
        r.Rflags = Rflags.AlwaysOne | Rflags.Iopl | (s.Alignment ? Rflags.AlignmentCheck : 0);
        r.Segments[1] = (format.IsLong, s.User) switch
        {
            (true, true) => new SegmentRegister(TestMachine.UserCode64, 0, uint.MaxValue, 0xA0FB),
            (true, false) => new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xA09B),
            (false, true) => new SegmentRegister(TestMachine.UserCode32, 0, uint.MaxValue, 0xC0FB),
            _ => new SegmentRegister(TestMachine.KernelCode, 0, uint.MaxValue, 0xC09B),
        };
        var data = s.User
            ? new SegmentRegister(TestMachine.UserData, 0, uint.MaxValue, 0xC0F3)
            : new SegmentRegister(TestMachine.KernelData, 0, uint.MaxValue, 0xC093);
        r.Segments[2] = data;
        r.Segments[3] = data;
        r.Gpr[3] = linear;
        r.Gpr[4] = s.User ? TestMachine.UserStack : TestMachine.KernelStack;
        r.Rip = code;
        machine.Apply();
    }
}
