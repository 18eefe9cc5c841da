using static Tutti.Cpu.Translator.HostRegister;

namespace Tutti.Cpu.Translator.Tests.Emitted;

/// <summary>The checker sees what leaves the region of a window, and the guards around it: code made by hand.</summary>
public sealed unsafe class WindowCodeCheckerTests : IDisposable
{
    private const int Rsi = 6;

    private readonly TranslationCache _cache = new();
    private readonly Emitter _emit = new();

    public void Dispose() => _cache.Dispose();

    [Fact]
    public void Passes_what_stays_near_the_number_whose_region_was_looked_up()
    {
        Passes(() =>
        {
            Region(Rdx);
            Read(Rdx, 1 << 30);
            _emit.StoreMemory(Rax, Rdx, Distance, -(1 << 30));
            _emit.Lea(Address, Rdx, Distance, 0, 8);
            _emit.LoadMemory(Rax, Address, -1, 0);
            Code("4883C208"); // ADD RDX, 8
            Read(Rdx);
            Code("4889D3"); // MOV RBX, RDX
            Read(Rbx, int.MaxValue);
        });
        foreach (string small in (string[])
            ["0FB6F1", "480FBFF1", "4863F1", "89CE", "83E17F89CE", "01CE", "48C1EE28", "4883E67F", "31F6", "48C7C610000000", "0F42F1", "8D7101", "F3480FB8F1"])
        {
            // RSI from RCX, then LEA R14, [RDX+RSI*8+16].
            Passes(() => { Code(small); Region(Rdx); _emit.Lea(Address, Rdx, Rsi, 3, 16); Read(Address); });
            Passes(() => { Code(small); Region(Rdx); Code("4801F2"); Read(Rdx); }); // ADD RDX, RSI
            Passes(() => { Code(small); Region(Rdx); Code("4829F2"); Read(Rdx); }); // SUB RDX, RSI
        }
    }

    [Fact]
    public void Finds_what_may_be_far_from_it()
    {
        Finds("without a lookup", () => { Region(Rdx); Read(Rbx); });
        Finds("without a lookup", () => { Region(Rdx); _emit.Not(Distance); Read(Rdx); });
        Finds("without a lookup", () => { Region(Rdx); _emit.Move(Rdx, Rbx); Read(Rdx); });
        Finds("without a lookup", () => { Region(Rdx); Code("4801CA"); Read(Rdx); }); // ADD RDX, RCX
        Finds("without a lookup", () => { Region(Rdx); _emit.Lea(Address, Rdx, Distance, 0, 0); _emit.Lea(Address, Address, Rdx, 0, 0); _emit.LoadMemory(Rax, Address, -1, 0); });
        Finds("without a lookup", () => { _emit.Load(Distance, StateLayout.Regions + 8); _emit.LoadMemory(Rax, Distance, -1, 0); });
        Finds("without a lookup", () => { _emit.Load(Distance, StateLayout.Regions); Read(Rdx); });
        Finds("no mask has bounded", () => Region(Rdx, count: Test));
        Finds("that regions do not have", () => Region(Rdx, table: StateLayout.Regions + 8));
        foreach (string any in (string[])
            ["4889CE", "0FBCF1", "480FBFF148C1E62F", "4963F3480FAFF6", "48C1EE04", "4883E6F0", "48F7D6", "4809CE", "66FFC6", "480F42F1", "488D3431"])
        {
            // Whatever RCX was may be all of RSI.
            Finds("without a lookup", () => { Code(any); Region(Rdx); _emit.Lea(Address, Rdx, Rsi, 0, 0); Read(Address); });
        }

        Finds("without a lookup", () => { Code("89CE"); Region(Rdx); Code("48C1E605"); _emit.Lea(Address, Rdx, Rsi, 0, 0); Read(Address); });
        Finds("without a lookup", () => { Code("89CE"); Region(Rdx); Code("488D14F2488D14F2"); Read(Rdx); });
        Finds("past what has been looked up", () =>
        {
            Region(Rdx);
            for (int i = 0; i < 33; i++)
            {
                Code("4881C2FFFFFF7F"); // ADD RDX, 7FFFFFFFh
            }

            Read(Rdx);
        });
        Assert.Contains("without a lookup", string.Join(' ', Check(() => { Region(Rdx); Read(Rdx); }, TlbSet.User)), StringComparison.Ordinal);
    }

    [Fact]
    public void Follows_the_guests_registers_in_the_state()
    {
        Passes(() =>
        {
            _emit.ShiftRightState(Distance, StateLayout.Gpr(10), State);
            Table();
            _emit.Load(Address, StateLayout.Gpr(10));
            Code("4983C608"); // ADD R14, 8
            _emit.Store(StateLayout.Gpr(10), Address);
            _emit.Load(Rdx, StateLayout.Gpr(10));
            Read(Rdx);
        });
        Finds("without a lookup", () => { _emit.ShiftRightState(Distance, StateLayout.Gpr(10), State); Table(); _emit.Load(Rdx, StateLayout.Gpr(11)); Read(Rdx); });
        Finds("without a lookup", () => { Region(Rdx); _emit.Store(StateLayout.Gpr(10), Rdx); _emit.Store32(StateLayout.Gpr(10) + 4, Rbx); _emit.Load(Rsi, StateLayout.Gpr(10)); Read(Rsi); });
    }

    [Fact]
    public void Finds_what_is_near_on_one_way_only()
    {
        Finds("without a lookup", () =>
        {
            long over = _emit.BeginJumpIf(4);
            Region(Rdx);
            _emit.EndShort(over);
            Read(Rdx);
        });
        Finds("without a lookup", () =>
        {
            Region(Rdx);
            long over = _emit.BeginJumpIf(4);
            Code("4883C208"); // ADD RDX, 8
            _emit.EndShort(over);
            Read(Rdx);
        });
        Finds("without a lookup", () =>
        {
            // A loop in which RDX grows for ever.
            Region(Rdx);
            long again = _emit.Here;
            Read(Rdx);
            Code("4883C208");
            _emit.Patch(_emit.JumpIfLater(5), again);
        });
    }

    [Fact]
    public void Finds_what_cannot_be_tried_again_after_a_fault()
    {
        // Once RDX is another number R15 comes from RBX, which has its origin, or the access cannot be reached.
        void Access()
        {
            _emit.Move(Rbx, Rdx);
            Region(Rdx);
            _emit.Move(Rdx, Rsi);
            Mark();
            Read(Rbx, 8);
        }

        Assert.Empty(Check(Access, TlbSet.UserWindow, (NoRegister, Rbx)));
        AssertFinds("without a lookup", Check(Access, TlbSet.UserWindow, (NoRegister, Rdx)));
        AssertFinds("without a lookup", Check(Access, TlbSet.UserWindow, (NoRegister, NoRegister)));

        // What R14 has must come back, too; and the region of what is a little elsewhere is good for a little less.
        void Cached(int displacement)
        {
            _emit.Load(Address, StateLayout.Gpr(10));
            _emit.Move(Rbx, Address);
            Code("89F1488D1CCB"); // MOV ECX, ESI; LEA RBX, [RBX+RCX*8]
            _emit.ShiftRight(Distance, Address, State);
            Table();
            Mark();
            Read(Address, displacement);
        }

        Assert.Empty(Check(() => Cached(0), TlbSet.UserWindow, (10, 10)));
        Assert.Empty(Check(() => Cached(0), TlbSet.UserWindow, (10, Rbx)));
        AssertFinds("without a lookup", Check(() => Cached(0), TlbSet.UserWindow, (11, 10)));
        AssertFinds("without a lookup", Check(() => Cached(0), TlbSet.UserWindow, (NoRegister, 10)));
    }

    private const int NoRegister = -1;

    private long _marked;

    private void Mark() => _marked = _emit.Here;

    private void Read(int from, int displacement = 0) => _emit.LoadMemory(Rax, from, Distance, displacement);

    private void Region(int address, int count = State, int? table = null)
    {
        _emit.ShiftRight(Distance, address, count);
        Table(table);
    }

    private void Table(int? table = null) => _emit.LoadTable(Distance, Distance, table ?? StateLayout.Regions);

    private void Code(string hex) => _emit.Bytes(Convert.FromHexString(hex));

    private void Passes(Action code) => Assert.Empty(Check(code));

    private void Finds(string rule, Action code) => AssertFinds(rule, Check(code));

    private static void AssertFinds(string rule, IReadOnlyCollection<string> violations) =>
        Assert.True(violations.Any(violation => violation.Contains(rule, StringComparison.Ordinal)), $"Expected: {rule}. Found: {string.Join("; ", violations)}");

    /// <summary>Checks a block of this code and an exit.</summary>
    /// <param name="retry">What R14 and R15 come from where the code has been marked.</param>
    private IReadOnlyCollection<string> Check(Action code, TlbSet set = TlbSet.UserWindow, (int Cached, int Region)? retry = null)
    {
        byte[] bytes = new byte[1024];

        // SAFETY: no code here is longer; it never runs.
        fixed (byte* write = bytes)
        {
            long start = _cache.End + 64;
            _emit.Begin(write, start);
            code();
            _emit.MoveImmediate(Test, ExitInfo.Pack(ExitKind.Interpret, 0));
            _emit.Call(_cache.Common.Exit);
            int length = (int)(_emit.Here - start);
            return EmittedCodeChecker.Check(new EmittedBlock(bytes[..length], (ulong)start, (ulong)start, set, _cache.Common, _ => false)
            {
                Retries = retry is { } known ? new() { [(ulong)_marked] = known } : new Dictionary<ulong, (int Cached, int Region)>(),
            });
        }
    }
}
