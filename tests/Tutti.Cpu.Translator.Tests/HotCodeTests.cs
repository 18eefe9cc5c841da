using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.System;
using static Iced.Intel.AssemblerRegisters;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Code that is found running again and again is translated anew, and accesses that go from page to page are left out of that.</summary>
public class HotCodeTests
{
    private const ulong First = TestMachine.Data;
    private const ulong Second = First ^ 0x1000;
    private const ulong Flag = 0xC000;

    [Fact]
    public void A_loop_that_is_found_running_becomes_hot_and_computes_the_same()
    {
        using TestMachine machine = TestMachine.Long();
        HotCode hot = Hot(machine, isEverything: false);
        machine.Write(First, 3UL);
        machine.Assemble(TestMachine.UserCode, 64, static a =>
        {
            Label loop = a.CreateLabel();
            a.Label(ref loop);
            a.add(rax, __[rbx]);
            a.inc(rdi);
            a.cmp(__dword_ptr[rsi], 0);
            a.je(loop);
            a.ud2();
        });
        machine.Registers.Gpr[3] = First;
        machine.Registers.Gpr[6] = Flag;
        machine.EnterUser();
        var watcher = new Thread(() =>
        {
            DateTime end = DateTime.UtcNow.AddSeconds(8);
            while (hot.PieceCount == 0 && DateTime.UtcNow < end)
            {
                Thread.Sleep(2);
                machine.Cpu.SignalInterrupt();
            }

            // Some time in the new translation.
            Thread.Sleep(5);
            machine.Write(Flag, 1);
        });
        watcher.Start();
        int vector = machine.RunToStub();
        watcher.Join();

        Assert.Equal(6, vector);
        Assert.Equal(1, hot.PieceCount);
        Assert.Equal(machine.Registers.Gpr[7] * 3, machine.Registers.Gpr[0]);
    }

    [Fact]
    public void An_access_that_goes_from_page_to_page_is_looked_up_in_the_tables_again()
    {
        (ulong sum, long spread) = SumOfLoop(static a => a.xor(rbx, 0x1000));
        Assert.Equal(50_000UL * (3 + 5), sum);
        Assert.Equal(1, spread);
    }

    [Fact]
    public void An_access_that_stays_in_its_page_keeps_it()
    {
        (ulong sum, long spread) = SumOfLoop(static a => a.nop());
        Assert.Equal(100_000UL * 3, sum);
        Assert.Equal(0, spread);
    }

    [Theory]
    [InlineData(3, 1)]
    [InlineData(40, 0)]
    public void The_share_of_executions_that_leave_the_page_decides_however_slow_the_loop_is(int every, long expected)
    {
        using TestMachine machine = TestMachine.Long();
        HotCode hot = Hot(machine, isEverything: true);
        machine.Write(First, 3UL);
        machine.Write(Second, 5UL);
        machine.Assemble(TestMachine.UserCode, 64, a =>
        {
            Label loop = a.CreateLabel();
            Label stay = a.CreateLabel();
            Label wait = a.CreateLabel();
            a.Label(ref loop);
            a.add(rax, __[rbx]);
            a.dec(rsi);
            a.jne(stay);
            a.mov(esi, every);
            a.xor(rbx, 0x1000);
            a.Label(ref stay);
            a.mov(ecx, 200);
            a.Label(ref wait);
            a.dec(ecx);
            a.jne(wait);
            a.dec(rdi);
            a.jne(loop);
            a.ud2();
        });
        machine.Registers.Gpr[3] = First;
        machine.Registers.Gpr[6] = (ulong)every;
        machine.Registers.Gpr[7] = 120_000;
        machine.EnterUser();
        Assert.Equal(6, machine.RunToStub());
        Assert.Equal(60_000UL * (3 + 5), machine.Registers.Gpr[0]);
        Assert.Equal(expected, hot.SpreadCount);
    }

    [Fact]
    public void An_access_on_trial_reaches_the_page_that_it_asks_for_and_faults_where_there_is_none()
    {
        using TestMachine machine = TestMachine.Long();
        HotCode hot = Hot(machine, isEverything: true);

        // 35 pages, one of four numbers in each, and one that is not there. A new page is missed by record and by tables: the trial begins at the 33rd.
        const int Pages = 35;
        const int Each = 5;
        const ulong Low = 0x18_0000;
        for (ulong i = 0; i < Pages; i++)
        {
            machine.SetPage(Low + (i * 0x1000), (First + (i % 4 * 0x1000)) | 7);
        }

        machine.SetPage(Low + (Pages * 0x1000), 0);
        for (ulong i = 0; i < 4; i++)
        {
            machine.Write(First + (i * 0x1000) + 8, i + 1);
        }

        machine.Assemble(TestMachine.UserCode, 64, static a =>
        {
            Label loop = a.CreateLabel();
            Label page = a.CreateLabel();
            a.Label(ref page);
            a.mov(ecx, Each);
            a.Label(ref loop);
            a.add(rax, __[rbx + 8]);
            a.inc(rdi);
            a.mov(__[rbx + 16], rdi);
            a.cmp(rdi, __[rbx + 16]);
            a.cmovne(rsi, rbx);
            a.dec(ecx);
            a.jne(loop);
            a.add(rbx, 0x1000);
            a.jmp(page);
        });
        machine.Registers.Gpr[3] = Low;
        machine.Registers.Gpr[6] = 0;
        machine.EnterUser();
        Assert.Equal(14, machine.RunToStub());
        Assert.Equal(Low + (Pages * 0x1000) + 8, machine.Registers.Cr2);
        ulong sum = 0;
        for (ulong i = 0; i < Pages; i++)
        {
            sum += Each * ((i % 4) + 1);
        }

        Assert.Equal(sum, machine.Registers.Gpr[0]);
        Assert.Equal((ulong)(Pages * Each), machine.Registers.Gpr[7]);
        Assert.Equal(0UL, machine.Registers.Gpr[6]);
        Assert.Equal(0, hot.SpreadCount);
    }

    [Fact]
    public void A_piece_that_many_accesses_of_have_left_their_page_is_left_alone()
    {
        var hot = new HotCode();
        const ulong Piece = 5 * HotCode.PieceSize;
        Assert.False(hot.Note(Piece));
        Assert.True(hot.Note(Piece + 1));
        ulong left = 0;
        while (!hot.NoteLeft(Piece + left, isUneven: false))
        {
            Assert.True(hot.IsSpread(Piece + left));
            Assert.False(hot.IsSpread(Piece + left + 1));
            Assert.True(++left < 20, "The piece is kept however many leave their page.");
        }

        Assert.True(hot.IsSpread(Piece));
        Assert.True(hot.IsSpread(Piece + HotCode.PieceSize - 1));
        Assert.False(hot.IsSpread(Piece + HotCode.PieceSize));

        // It is not said twice.
        Assert.False(hot.NoteLeft(Piece + left + 1, isUneven: false));
    }

    [Fact]
    public void More_sites_than_there_are_records_share_them()
    {
        var hot = new HotCode();
        HashSet<int> reads = [.. Enumerable.Range(0, StateLayout.SiteCount).Select(_ => hot.TakeSite(false))];
        Assert.Equal(StateLayout.SiteCount, reads.Count);
        Assert.Contains(hot.TakeSite(false), reads);
        Assert.DoesNotContain(hot.TakeSite(true), reads);
    }

    /// <summary>100,000 times: adds what RBX points to, which is 3 in the first page and 5 in the second, and moves RBX.</summary>
    private static (ulong Sum, long Spread) SumOfLoop(Action<Assembler> move)
    {
        using TestMachine machine = TestMachine.Long();
        HotCode hot = Hot(machine, isEverything: true);
        machine.Write(First, 3UL);
        machine.Write(Second, 5UL);
        machine.Assemble(TestMachine.UserCode, 64, a =>
        {
            Label loop = a.CreateLabel();
            a.Label(ref loop);
            a.add(rax, __[rbx]);
            move(a);
            a.dec(rdi);
            a.jne(loop);
            a.ud2();
        });
        machine.Registers.Gpr[3] = First;
        machine.Registers.Gpr[7] = 100_000;
        machine.EnterUser();
        Assert.Equal(6, machine.RunToStub());
        return (machine.Registers.Gpr[0], hot.SpreadCount);
    }

    internal static HotCode Hot(TestMachine machine, bool isEverything)
    {
        Translator translator = Assert.IsType<Translator>(machine.Cpu.Tier);
        HotCode hot = translator.Cache.Hot;
        hot.IsEverything = isEverything;
        translator.Windows.IsAlways = false;
        return hot;
    }
}
